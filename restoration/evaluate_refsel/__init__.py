"""`engine evaluate-refsel`: the paper's test of RefSel, with the truth beside its accuracy.

`protocol` chooses the pairs, `measures` scores them one by one, `summary` makes the tables and curves
of the scores, `page` shows them, and `run` does all of it.
"""
