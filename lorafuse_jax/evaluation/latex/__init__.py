"""Answers in LaTeX, compared as texts by published rules, and as mathematics by sympy."""
