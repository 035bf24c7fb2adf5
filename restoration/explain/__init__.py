"""`engine explain`: for one pair, which place of the reference each place of the result looked at.

`attention` watches the restorer's attentions, `run` restores the pair under watch, `page` shows it.
"""
