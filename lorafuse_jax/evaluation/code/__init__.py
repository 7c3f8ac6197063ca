"""Benchmarks of programming: from a text to a program, to a verdict, to pass@k."""
