"""``make bench``: what Chamberlain costs, as ratios that hold on any machine. How to read them: docs/benchmarks.md."""
