"""Which examples are worth a look: those on which the models differ in a telling way."""

from typing import Any, NamedTuple

import numpy as np

from lorafuse_jax.evaluation.scores import Scores

FEWEST = 3

KINDS = {
    "only-fused": "only fused right",
    "lost": "only fused wrong",
    "disagree": "models disagree",
    "fault": "could not be scored",
}
"""What an example may be, as the filter calls it; from the most telling."""


class Choice(NamedTuple):
    """The examples that are shown.

    Attributes:
        shown: their numbers, in order; three at least, if there are.
        kinds: number -> what it is, of all examples that are anything.
    """

    shown: list[int]
    kinds: dict[int, list[str]]

    def count(self, kind: str) -> int:
        """How many are of one kind, shown or not."""
        return sum(kind in own for own in self.kinds.values())


def choose(scores: Scores, most: int) -> Choice:
    """Examples of every kind in turn, the first of each first.

    ``only-fused``: a fused model is right and every seed wrong; ``lost``: a fused model is wrong
    and every seed right; ``disagree``: some adapter is right and another not (the base does not
    count, it disagrees with everyone); ``fault``: an answer that could not be scored.

    Args:
        scores: of the benchmark.
        most: how many are shown at most.
    """
    of_kind = _by_kind(scores)
    kinds: dict[int, list[str]] = {}
    for kind in KINDS:
        for number in np.flatnonzero(of_kind[kind]):
            kinds.setdefault(int(number), []).append(kind)
    queues = [[n for n in sorted(kinds) if kind in kinds[n]] for kind in KINDS]
    shown: set[int] = set()
    while len(shown) < most and any(queues):
        for queue in queues:
            while queue and queue[0] in shown:
                queue.pop(0)
            if queue and len(shown) < most:
                shown.add(queue.pop(0))
    # Where models hardly differ, it is still worth seeing what they say.
    others = [number for number in range(len(scores.ids)) if number not in kinds]
    shown.update(others[: max(0, min(FEWEST, most) - len(shown))])
    return Choice(sorted(shown), kinds)


def _by_kind(scores: Scores) -> dict[str, Any]:
    """Kind -> whether each example is of it, [E]."""
    right = scores.primary == 1
    seeds, fused = right[scores.rows_of("seed")], right[scores.rows_of("fused")]
    adapted = np.concatenate([seeds, fused])
    faults = np.array([[fault is not None for fault in line] for line in scores.faults])
    return {
        "only-fused": fused.any(axis=0) & ~seeds.any(axis=0),
        "lost": (~fused).any(axis=0) & seeds.all(axis=0),
        "disagree": adapted.any(axis=0) & ~adapted.all(axis=0),
        "fault": faults.any(axis=0),
    }
