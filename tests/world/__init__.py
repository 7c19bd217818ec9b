"""The world that tests run in: a real PostgreSQL, the real application, and the personas who call it."""
