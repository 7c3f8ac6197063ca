"""Fusion that looks at data: statistics of the members, learned weights, searched settings."""

LEARNED = ()
