"""The loss among the seeds of a run: where it is looked at, and what is made of it; pure NumPy."""
