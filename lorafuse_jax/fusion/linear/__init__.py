"""Weighted sums of deltas, and what lies on the lines and arcs between them."""

from lorafuse_jax.fusion.linear.factor_mean import factor_mean
from lorafuse_jax.fusion.linear.karcher import karcher
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.linear.model_stock import model_stock
from lorafuse_jax.fusion.linear.slerp import slerp
from lorafuse_jax.fusion.linear.svd import svd
from lorafuse_jax.fusion.linear.task_arithmetic import task_arithmetic

LINEAR = (mean, task_arithmetic, svd, slerp, karcher, model_stock, factor_mean)
