"""Weighted sums of deltas, and what stays on the lines and arcs between them."""

from lorafuse_jax.fusion.linear.mean import mean

LINEAR = (mean,)
