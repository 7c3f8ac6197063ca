"""Null controls: what is gained without any fusion of what the members have learned."""

from lorafuse_jax.fusion.control.null_members import random_members, shuffled_layers
from lorafuse_jax.fusion.control.scaled_mean import scaled_mean
from lorafuse_jax.fusion.control.scaled_member import scaled_member
from lorafuse_jax.fusion.linear.mean import mean

CONTROLS = (scaled_mean, scaled_member, random_members(mean), shuffled_layers(mean))
