"""When to stop early: from the losses so far alone, so that a resumed run decides the same."""

from collections.abc import Sequence


def has_stalled(losses: Sequence[float], patience: int) -> bool:
    """Whether the last ``patience`` losses are none below the best before them.

    A loss that is not finite is no fall.

    Args:
        losses: of all evaluations so far, in their order.
        patience: at least 1.
    """
    return since_best(losses) >= patience


def since_best(losses: Sequence[float]) -> int:
    """How many evaluations came after the first with the lowest loss; 0 if there is none."""
    best, since = float("inf"), 0
    for loss in losses:
        if loss < best:
            best, since = loss, 0
        else:
            since += 1
    return since
