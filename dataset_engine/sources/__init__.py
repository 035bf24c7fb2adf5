"""The forms in which pictures come to `engine ingest`, a module for each."""
