"""The greedy soup: members join as long as validation does not get worse."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from lorafuse_jax.adapter import num_members, take
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.types import Adapter


class GreedySoup(NamedTuple):
    """What was chosen.

    Attributes:
        adapter: the mean of the chosen members, of rank S * R.
        members: their indices, in the order in which they joined.
        score: of the adapter.
        scores: of every member alone, [S].
    """

    adapter: Adapter
    members: tuple[int, ...]
    score: float
    scores: tuple[float, ...]


def greedy_soup(stacked: Adapter, score: Callable[[Adapter], float]) -> GreedySoup:
    """Add members from the best to the worst; keep each that does not lower the score.

    Source: arXiv:2203.05482 (model soups), algorithm 1.

    Args:
        stacked: leaves [S, L, ...].
        score: of an adapter of LoraPairs [L, ...] on validation data, never on test data; higher is
            better. It is asked 2 S - 1 times, always with rank S * R, so that it compiles once.
    """
    members = num_members(stacked)

    def soup(chosen: tuple[int, ...]) -> Adapter:
        one_hot = jnp.zeros(members).at[jnp.array(chosen)].set(1 / len(chosen))
        return mean(stacked, weights=one_hot)

    scores = tuple(float(score(soup((member,)))) for member in range(members))
    ranking = sorted(range(members), key=lambda member: -scores[member])
    chosen, best = (ranking[0],), scores[ranking[0]]
    for member in ranking[1:]:
        candidate = (*chosen, member)
        reached = float(score(soup(candidate)))
        if reached >= best:
            chosen, best = candidate, reached
    adapter = soup(chosen) if len(chosen) > 1 else take(stacked, chosen[0])
    return GreedySoup(adapter, chosen, best, scores)
