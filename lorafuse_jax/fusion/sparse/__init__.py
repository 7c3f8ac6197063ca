"""Operators that keep some entries of each member and drop others."""

SPARSE = ()
