"""The batches of all seeds, step by step, in few shapes that are known beforehand."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np

from lorafuse_jax.data.batches import Batch, BatchShape, assign_rows, pack, stack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.data.order import order_for_epoch
from lorafuse_jax.data.subset import subset_of
from lorafuse_jax.types import UserError

ROW_MULTIPLE = 8
ROW_CANDIDATES = 48
SAMPLED_STEPS = 64
"""The row length is chosen by so many steps; what fits is then looked up for all."""

MOST_SHAPES = 3
WORTH_A_SHAPE = 0.03
"""A further shape is a further compilation: it must save this share of the work."""

ATTENTION_SHARE = 1 / 512
"""Measured on CPU: attention doubles the cost of a token at about this row length, inverted."""


class Loader:
    """Each seed's examples in its own endless order, packed.

    A step takes the next ``examples_per_step`` examples of each seed (epochs run on into each
    other) and depends on its number alone. Orders follow from the seeds and packing from the
    lengths, so all shapes are found beforehand: one row length, and one to three numbers of rows,
    of which a step takes the smallest that holds every seed's examples. Each is compiled once.
    """

    def __init__(
        self,
        examples: Sequence[Encoded],
        *,
        order_seeds: Sequence[int],
        examples_per_step: int,
        num_steps: int,
        micro_batches: int = 1,
        parts: int = 1,
        subset: float = 1.0,
        subset_seeds: Sequence[int] | None = None,
    ) -> None:
        """Plan all steps.

        Args:
            examples: the training set.
            order_seeds: one integer a member; equal ones see the same order.
            examples_per_step: of each member.
            num_steps: how many steps will be asked for.
            micro_batches: A, how many batches a step's examples are dealt out to; their gradients
                are added before the optimiser moves.
            parts: G, how many devices share each of these.
            subset: share of the training set that a member sees at all; 1 is all of it.
            subset_seeds: one integer a member; equal ones see the same share. By default the
                integers of the orders.

        Raises:
            UserError: the examples of a step cannot be dealt out equally.
        """
        _check_deal(examples_per_step, micro_batches, parts)
        self._examples = examples
        self._draws = tuple(zip(order_seeds, subset_seeds or order_seeds, strict=True))
        self._per_step = examples_per_step
        self._micro_batches, self._parts = micro_batches, parts
        lengths = np.array([example.length for example in examples])

        @lru_cache(2 * len(self._draws))
        def order(seed: int, subset_seed: int, epoch: int) -> np.ndarray:
            own = subset_of(subset_seed, subset, len(examples))
            strata = min(examples_per_step, len(own))
            return own[order_for_epoch(seed, epoch, lengths[own], strata)]

        self._order = order
        self.shapes, self._shape_of = self._plan(num_steps)

    @property
    def shape(self) -> BatchShape:
        """The largest of the shapes."""
        return self.shapes[-1]

    def chosen(self, seed: int, step: int, subset_seed: int | None = None) -> list[int]:
        """Numbers of the examples that a seed sees in a step; its share is drawn from its own."""
        share_seed = seed if subset_seed is None else subset_seed
        count = len(self._order(seed, share_seed, 0))
        places = range(step * self._per_step, (step + 1) * self._per_step)
        return [
            int(self._order(seed, share_seed, place // count)[place % count]) for place in places
        ]

    def batch(self, step: int) -> Batch:
        """The step's batch, leaves [S, A, G, ...]."""
        return self.part_of_batch(step, slice(None), slice(None))

    def part_of_batch(self, step: int, seeds: slice, parts: slice) -> Batch:
        """Of the step's batch, some seeds and some parts: what one of several hosts needs."""
        shape = self.shapes[self._shape_of[step]]

        def micro_batch(groups: list[list[Encoded]]) -> Batch:
            return stack([pack(group, shape) for group in groups[parts]])

        return stack(
            [stack(list(map(micro_batch, self._dealt(draw, step)))) for draw in self._draws[seeds]]
        )

    def dimensions(self, step: int) -> tuple[tuple[int, int, int], BatchShape]:
        """S, A and G, and the shape of each of these parts of the step's batch."""
        leading = (len(self._draws), self._micro_batches, self._parts)
        return leading, self.shapes[self._shape_of[step]]

    def _dealt(self, draw: tuple[int, int], step: int) -> list[list[list[Encoded]]]:
        """What each part of each micro-batch holds: every so many-th example, to mix lengths."""
        some = [self._examples[number] for number in self.chosen(draw[0], step, draw[1])]
        every = lambda among, count: [among[first::count] for first in range(count)]  # noqa: E731
        return [every(one, self._parts) for one in every(some, self._micro_batches)]

    def _groups(self, step: int) -> Iterator[list[Encoded]]:
        for draw in dict.fromkeys(self._draws):
            for micro_batch in self._dealt(draw, step):
                yield from micro_batch

    def _plan(self, num_steps: int) -> tuple[list[BatchShape], list[int]]:
        """The shapes, smallest first, and which of them each step takes."""
        lengths, losses = [], np.zeros(num_steps, int)
        for step in range(num_steps):
            groups = list(self._groups(step))
            lengths.append([[example.length for example in group] for group in groups])
            losses[step] = max(1, *(sum(one.num_losses for one in group) for group in groups))
        row_length = _best_row_length(lengths)
        needed = np.array([_rows_needed(groups, row_length) for groups in lengths])
        row_counts = _row_counts(needed)
        shape_of = np.searchsorted(row_counts, needed)
        # A larger shape must hold what a smaller one holds, or it would not be larger.
        most = [losses[shape_of <= kind].max() for kind in range(len(row_counts))]
        shapes = [BatchShape(r, row_length, int(m)) for r, m in zip(row_counts, most, strict=True)]
        return shapes, shape_of.tolist()


def _check_deal(examples_per_step: int, micro_batches: int, parts: int) -> None:
    if examples_per_step % micro_batches:
        raise UserError(
            f"{examples_per_step} examples a step cannot be dealt out to {micro_batches} equal "
            "micro-batches; choose a divisor"
        )
    if examples_per_step // micro_batches % parts:
        raise UserError(
            f"{examples_per_step // micro_batches} examples of a micro-batch cannot be dealt out "
            f"to {parts} equal parts"
        )


def _rows_needed(groups: Sequence[Sequence[int]], row_length: int) -> int:
    return max(len(assign_rows(lengths, row_length)) for lengths in groups)


def _best_row_length(steps: Sequence[Sequence[Sequence[int]]]) -> int:
    """The row length with the least estimated work over a sample of the steps."""
    longest = -(-max(max(map(max, groups)) for groups in steps) // ROW_MULTIPLE) * ROW_MULTIPLE
    stride = max(1, 3 * longest // ROW_MULTIPLE // ROW_CANDIDATES) * ROW_MULTIPLE
    sample = steps[:: -(-len(steps) // SAMPLED_STEPS)]

    def work(row_length: int) -> float:
        rows = np.array([_rows_needed(groups, row_length) for groups in sample])
        return _work(rows, _row_counts(rows)) * row_length * (1 + ATTENTION_SHARE * row_length)

    return min(range(longest, 4 * longest, stride), key=work)


def _row_counts(needed: np.ndarray) -> list[int]:
    """One to three numbers of rows, ascending, that serve all steps with little waste."""
    *smaller, largest = np.unique(needed).tolist()
    best = [largest]
    for more in range(1, MOST_SHAPES):
        choices = [[*some, largest] for some in combinations(smaller, more)]
        if not choices:
            break
        choice = min(choices, key=lambda counts: _work(needed, counts))
        if _work(needed, choice) < (1 - WORTH_A_SHAPE) * _work(needed, best):
            best = choice
    return best


def _work(needed: np.ndarray, row_counts: list[int]) -> int:
    """Rows computed over all steps."""
    counts = np.array(row_counts)
    return int(counts[np.searchsorted(counts, needed)].sum())
