"""Null controls: what is gained without any fusion of what the members have learned."""

from lorafuse_jax.fusion.control.scaled_mean import scaled_mean

CONTROLS = (scaled_mean,)
