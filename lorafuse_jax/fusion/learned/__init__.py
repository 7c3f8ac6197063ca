"""Fusion that looks at data: statistics of the members, learned weights, searched settings."""

from lorafuse_jax.fusion.learned.fisher import fisher, fisher_information
from lorafuse_jax.fusion.learned.greedy_soup import GreedySoup, greedy_soup
from lorafuse_jax.fusion.learned.learn_weights import LearnedWeights, fuse_weighted, learn_weights
from lorafuse_jax.fusion.learned.regmean import regmean
from lorafuse_jax.fusion.learned.search import Trial, random_search

LEARNED = (fisher, regmean)

__all__ = [
    "LEARNED",
    "GreedySoup",
    "LearnedWeights",
    "Trial",
    "fisher",
    "fisher_information",
    "fuse_weighted",
    "greedy_soup",
    "learn_weights",
    "random_search",
    "regmean",
]
