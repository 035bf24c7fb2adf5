"""`engine ablate`: the paper's Table 2 anew, each row trained under one budget and over the same seeds.

`rows` says what a row leaves out, `masked_faces` gives it its masks, `measures` scores what it
restores, `summary` makes the table and holds it against the paper, and `run` does all of it.
"""
