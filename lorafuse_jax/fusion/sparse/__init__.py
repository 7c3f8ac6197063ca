"""Operators that keep some entries of each member and drop others."""

from lorafuse_jax.fusion.sparse.breadcrumbs import breadcrumbs
from lorafuse_jax.fusion.sparse.dare import dare, dare_ties
from lorafuse_jax.fusion.sparse.della import della
from lorafuse_jax.fusion.sparse.magnitude_pruning import magnitude_pruning
from lorafuse_jax.fusion.sparse.parameter_selection import parameter_selection
from lorafuse_jax.fusion.sparse.sce import sce
from lorafuse_jax.fusion.sparse.ties import ties

SPARSE = (
    ties,
    dare,
    dare_ties,
    della,
    breadcrumbs,
    magnitude_pruning,
    sce,
    parameter_selection,
)
