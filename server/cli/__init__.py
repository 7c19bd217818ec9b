"""The command line: ``chamberlain``."""
