"""The whole server as a user runs it: ``chamberlain serve`` in processes of its own."""
