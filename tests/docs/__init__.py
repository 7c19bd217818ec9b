"""What the documentation shows is what happens: its marked blocks are run, and their output is compared."""
