"""`engine evaluate`: other methods' results beside ours, in the form of the paper's Table 1.

`quoted` holds the paper's own figures, `result_folders` finds the images, `intervals` says how sure a
mean is, `table_one` makes the table, `closer_look` keeps the faces on which methods differ most, `page`
shows it all, and `run` does it.
"""
