"""Operators on singular vectors, and spaces in which any operator can work."""

SPECTRAL = ()
