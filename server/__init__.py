"""How it runs: the process, its HTTP surface, services, repositories, drivers, settings and command line."""
