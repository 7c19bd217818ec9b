"""Proof by fault: a real server, real clients, real faults; and a checker of what was told against what was recorded."""
