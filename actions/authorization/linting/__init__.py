"""The rules of the linter, one by one, in the order of their page. Each is a constant beside those of its kind."""
