"""Results by group: by subject, or by the template that problems were made from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lorafuse_jax.evaluation.scores import Scores


@dataclass(frozen=True)
class Group:
    """One group's results.

    Attributes:
        name: of the group.
        examples: how many it has.
        mean: of the metric over its examples [models], in [0, 1].
        variance: of the metric over its examples [models], with one degree of freedom less; of a
            template over the problems made from it. NaN where there is one example.
    """

    name: str
    examples: int
    mean: Float[np.ndarray, " models"]
    variance: Float[np.ndarray, " models"]


def by_group(scores: Scores, metric: str | None = None) -> list[Group]:
    """Results of every group, in the order in which groups first occur; none without groups.

    Args:
        scores: models are in their order.
        metric: by default the one that is compared.
    """
    values = scores.primary if metric is None else scores.values[metric]
    groups = np.array(scores.groups)
    found = []
    for name in dict.fromkeys(filter(None, scores.groups)):
        own = values[:, groups == name]
        count = own.shape[1]
        spread = own.var(axis=1, ddof=1) if count > 1 else np.full(len(own), np.nan)
        found.append(Group(name, count, own.mean(axis=1), spread))
    return found
