"""What leaves the log: partitions and their archives, and what is sealed of people who are erased."""
