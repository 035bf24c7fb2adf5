"""Pairs, masks, reviews and shards: the data engine and its command line."""
