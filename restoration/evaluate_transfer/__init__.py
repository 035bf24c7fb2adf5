"""`engine evaluate-transfer`: does detail come from the reference, and only where it may?

`recovery` measures marks and intruders, `cases` chooses and degrades test pairs, `conditions` restores
them with and without the reference, `summary` makes the table, `sheet` the picture, `run` does all.
"""
