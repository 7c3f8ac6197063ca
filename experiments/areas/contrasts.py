"""Differences between rows of the same group: is one row better than another one?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.areas.area import Area
from lorafuse_jax.evaluation.lineup import Entrant, likelihoods_of, values_of
from lorafuse_jax.evaluation.statistics import conclude, gain_over_groups, holm
from lorafuse_jax.evaluation.summary import MARGIN


def contrasts_of(area: Area, rows: Mapping[str, Sequence[Entrant]]) -> list[dict[str, Any]]:
    """The area's contrasts on one test, one family of tests (Holm).

    Args:
        area: says which.
        rows: name -> the row in every group.

    Returns:
        For each: ``rows``, ``by_group``, ``difference`` with its interval over groups and
        examples, ``p``, ``corrected_p``, ``finding``, and ``likelihood`` in nats a token or None.
    """
    pairs = [(a, b) for a, b in area.contrasts if a in rows and b in rows]
    tables = [values_of(list(rows[a])) - values_of(list(rows[b])) for a, b in pairs]
    estimates = [gain_over_groups(table, bounded=True) for table in tables]
    corrected = holm([estimate.p_value() for estimate in estimates])
    return [
        {
            "rows": list(pair),
            "by_group": table.mean(axis=1).tolist(),
            "difference": asdict(estimate.interval()),
            "p": estimate.p_value(),
            "corrected_p": p,
            "finding": conclude(estimate.interval(), p, margin=MARGIN),
            "likelihood": _likelihood(rows[pair[0]], rows[pair[1]]),
        }
        for pair, table, estimate, p in zip(pairs, tables, estimates, corrected, strict=True)
    ]


def _likelihood(one: Sequence[Entrant], other: Sequence[Entrant]) -> dict[str, float] | None:
    if any(entrant.log_likelihood is None for entrant in (*one, *other)):
        return None
    gains = likelihoods_of(list(one)) - likelihoods_of(list(other))
    return asdict(gain_over_groups(gains, bounded=False).interval())
