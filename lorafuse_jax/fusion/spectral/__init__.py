"""Operators on singular vectors, and spaces in which any operator can work."""

from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.fusion.spectral.iso import iso
from lorafuse_jax.fusion.spectral.lego import lego
from lorafuse_jax.fusion.spectral.pome import pome
from lorafuse_jax.fusion.spectral.seedft import seedft
from lorafuse_jax.fusion.spectral.spaces import compress_then_merge, core_space, knots
from lorafuse_jax.fusion.spectral.tsv import tsv

SPECTRAL = (
    core_space(ties),
    knots(ties),
    compress_then_merge(mean),
    tsv,
    iso,
    lego,
    seedft,
    pome,
)
