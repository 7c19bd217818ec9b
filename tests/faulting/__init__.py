"""Proof by fault: a real server, its clients, real faults; and a checker of what was told against what was recorded."""
