"""Restoring files: which references, in batches, resumed; how faces are found is handed in."""
