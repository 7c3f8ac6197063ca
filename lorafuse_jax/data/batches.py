"""Token ids to packed batches: several examples share a row, each blind to the others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.data.subset import subset_of
from lorafuse_jax.types import UserError

ORDER_STREAM = 0x0DE2
"""Tells the generator of data orders from other uses of the same seed."""

ROW_MULTIPLE = 32
ATTENTION_SHARE = 1 / 512
"""Measured on CPU: attention doubles the cost of a token at about this row length, inverted."""


class Batch(NamedTuple):
    """Packed examples; with axes for seeds S and micro-batches A in front while training.

    Attributes:
        tokens: ids; 0 where there is padding.
        segments: which example of its row a token belongs to, from 1; 0 is padding.
        positions: place in its example, from 0.
        loss_index: flat index into [B * T] of each token whose successor is an answer token.
        loss_target: that successor.
        loss_weight: 1, or 0 for padding.
        loss_example: which of the packed examples it belongs to.
    """

    tokens: Int32[np.ndarray, "*SA B T"]
    segments: Int32[np.ndarray, "*SA B T"]
    positions: Int32[np.ndarray, "*SA B T"]
    loss_index: Int32[np.ndarray, "*SA M"]
    loss_target: Int32[np.ndarray, "*SA M"]
    loss_weight: Float32[np.ndarray, "*SA M"]
    loss_example: Int32[np.ndarray, "*SA M"]


class BatchShape(NamedTuple):
    """B rows of T tokens, M of them with a loss."""

    rows: int
    length: int
    losses: int


def order_for_epoch(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """The permutation in which a seed sees the examples in an epoch, from these three alone."""
    return np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(num_examples)


def assign_rows(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Which examples share a row: first fit, longest first; deterministic."""
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = lengths[number]
        row = next((r for r, left in enumerate(room) if left >= length), None)
        if row is None:
            rows.append([])
            room.append(row_length)
            row = len(rows) - 1
        rows[row].append(number)
        room[row] -= length
    return rows


def fewest_rows(steps: Sequence[Sequence[int]], row_length: int) -> int:
    """Rows of ``row_length`` tokens that hold any of these steps' examples."""
    return max(len(assign_rows(lengths, row_length)) for lengths in steps)


def pack(examples: Sequence[Encoded], shape: BatchShape) -> Batch:
    """One batch of these examples; they must fit the shape."""
    tokens, segments, positions = (np.zeros((shape.rows, shape.length), np.int32) for _ in range(3))
    index, target, owner = (np.zeros(shape.losses, np.int32) for _ in range(3))
    weight = np.zeros(shape.losses, np.float32)
    used = 0
    for row, numbers in enumerate(assign_rows([e.length for e in examples], shape.length)):
        start = 0
        for segment, number in enumerate(numbers, start=1):
            example = examples[number]
            here = slice(start, start + example.length)
            tokens[row, here] = np.concatenate([example.prompt, example.completion])
            segments[row, here] = segment
            positions[row, here] = np.arange(example.length)
            losses = slice(used, used + len(example.completion))
            first = row * shape.length + start + len(example.prompt) - 1
            index[losses] = first + np.arange(len(example.completion))
            target[losses] = example.completion
            owner[losses] = number
            weight[losses] = 1
            start, used = here.stop, losses.stop
    return Batch(tokens, segments, positions, index, target, weight, owner)


def full_batches(examples: Sequence[Encoded], row_length: int, rows: int) -> list[Batch]:
    """All examples once, in batches of ``rows`` rows and one common shape."""
    packed = assign_rows([example.length for example in examples], row_length)
    groups = [
        [examples[number] for row in packed[start : start + rows] for number in row]
        for start in range(0, len(packed), rows)
    ]
    losses = max(sum(len(example.completion) for example in group) for group in groups)
    return [pack(group, BatchShape(rows, row_length, losses)) for group in groups]


class Loader:
    """The batches of all seeds, each in its own order, in one shape: one compilation.

    A step takes the next ``examples_per_step`` examples of each seed's endless order (epochs run on
    into each other), and depends on the step's number alone. Since orders follow from the seeds and
    packing from the lengths, the smallest shape that fits every step is found beforehand.
    """

    def __init__(
        self,
        examples: Sequence[Encoded],
        *,
        order_seeds: Sequence[int],
        examples_per_step: int,
        num_steps: int,
        row_length: int | None = None,
        micro_batches: int = 1,
        subset: float = 1.0,
        subset_seeds: Sequence[int] | None = None,
    ) -> None:
        """Plan all steps.

        Args:
            examples: the training set.
            order_seeds: one integer a member; equal ones see the same order.
            examples_per_step: of each member.
            num_steps: how many steps will be asked for.
            row_length: T; by default the one with the least estimated work.
            micro_batches: A, how many batches a step's examples are dealt out to; their gradients
                are added before the optimiser moves.
            subset: share of the training set that a member sees at all; 1 is all of it.
            subset_seeds: one integer a member; equal ones see the same share. By default the
                integers of the orders.
        """
        self._examples = examples
        self._subset = subset
        self._draws = tuple(zip(order_seeds, subset_seeds or order_seeds, strict=True))
        self._per_step = examples_per_step
        if examples_per_step % micro_batches:
            raise UserError(
                f"{examples_per_step} examples a step cannot be dealt out to {micro_batches} equal "
                "micro-batches; choose a divisor"
            )
        self._micro_batches = micro_batches
        dealt = [
            group
            for step in range(num_steps)
            for draw in set(self._draws)
            for group in self._dealt(draw, step)
        ]
        lengths = [[example.length for example in group] for group in dealt]
        longest = -(-max(map(max, lengths)) // ROW_MULTIPLE) * ROW_MULTIPLE
        candidates = (
            range(longest, 4 * longest, ROW_MULTIPLE) if row_length is None else [row_length]
        )
        rows, length = min(
            ((fewest_rows(lengths, t), t) for t in candidates),
            key=lambda shape: shape[0] * shape[1] * (1 + ATTENTION_SHARE * shape[1]),
        )
        losses = max(sum(len(example.completion) for example in group) for group in dealt)
        self.shape = BatchShape(rows, length, losses)

    def chosen(self, seed: int, step: int, subset_seed: int | None = None) -> list[int]:
        """Numbers of the examples that a seed sees in a step; its share is drawn from its own."""
        share_seed = seed if subset_seed is None else subset_seed
        own = subset_of(share_seed, self._subset, len(self._examples))
        count = len(own)
        places = range(step * self._per_step, (step + 1) * self._per_step)
        orders = {
            epoch: order_for_epoch(seed, epoch, count)
            for epoch in {place // count for place in places}
        }
        return [int(own[orders[place // count][place % count]]) for place in places]

    def batch(self, step: int) -> Batch:
        """The step's batch, leaves [S, A, ...]."""
        seeds = [
            _stack([pack(group, self.shape) for group in self._dealt(draw, step)])
            for draw in self._draws
        ]
        return _stack(seeds)

    def _dealt(self, draw: tuple[int, int], step: int) -> list[list[Encoded]]:
        """What each micro-batch of a step holds; ``draw`` is the seed of order and of subset."""
        some = [self._examples[number] for number in self.chosen(draw[0], step, draw[1])]
        size = len(some) // self._micro_batches
        return [some[start : start + size] for start in range(0, len(some), size)]

    def tokens(self, step: int) -> int:
        """Real tokens of the step over all members."""
        return sum(
            self._examples[number].length
            for seed, subset_seed in self._draws
            for number in self.chosen(seed, step, subset_seed)
        )


def _stack(batches: Sequence[Batch]) -> Batch:
    return Batch(*(np.stack(leaves) for leaves in zip(*batches, strict=True)))
