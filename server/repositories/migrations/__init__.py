"""Bringing a database to the schema that this program speaks, and giving the application its narrow rights on it."""
