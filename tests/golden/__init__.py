"""The goldens: what the program offers and who may do it, written out so that a review sees every change of it.

``python -m tests.golden`` rewrites them, ``--check`` compares. Each is made from the declarations and the shipped
policy alone: no database, no clock, nothing of the machine.
"""
