"""``chamberlain audit``: the log read, exported, proven and checked. One module for each command; ``group`` puts them
together.

Most ask the server with a caller's own credentials. Those that work on the machine itself say so in their help.
"""
