"""``chamberlain policy``: the policy workbench. One module for each command; ``group`` puts them together.

Each works on a folder without a server, or, where that makes sense, asks the running server the same question; both
answer with the same model, which is printed in one place.
"""
