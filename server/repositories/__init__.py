"""Repositories: the only code that speaks to PostgreSQL. Every statement of theirs is narrowed to a permit's scope."""
