"""The folder on the server's PYTHONPATH: only `ls_settings` is in it."""
