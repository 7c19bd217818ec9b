"""The laws of the pipeline, each with tests that try to break it."""
