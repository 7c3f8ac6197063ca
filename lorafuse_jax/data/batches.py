"""Token ids to packed batches: several examples share a row, each blind to the others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from lorafuse_jax.data.encode import Encoded


class Batch(NamedTuple):
    """Packed examples; with axes S A G in front while training: seeds, micro-batches, parts.

    Attributes:
        tokens: ids; 0 where there is padding.
        segments: which example of its row a token belongs to, from 1; 0 is padding.
        positions: place in its example, from 0.
        loss_index: flat index into [B * T] of each token whose successor has a loss.
        loss_target: that successor.
        loss_weight: the weight of its example, 1 by default; 0 for padding.
        loss_example: which of the packed examples it belongs to.
    """

    tokens: Int32[np.ndarray, "*SAG B T"]
    segments: Int32[np.ndarray, "*SAG B T"]
    positions: Int32[np.ndarray, "*SAG B T"]
    loss_index: Int32[np.ndarray, "*SAG M"]
    loss_target: Int32[np.ndarray, "*SAG M"]
    loss_weight: Float32[np.ndarray, "*SAG M"]
    loss_example: Int32[np.ndarray, "*SAG M"]


class BatchShape(NamedTuple):
    """B rows of T tokens, M of them with a loss."""

    rows: int
    length: int
    losses: int


def empty(leading: tuple[int, ...], shape: BatchShape) -> Batch:
    """A batch of padding."""
    grid, losses = (*leading, shape.rows, shape.length), (*leading, shape.losses)
    tokens, segments, positions = (np.zeros(grid, np.int32) for _ in range(3))
    index, target, owner = (np.zeros(losses, np.int32) for _ in range(3))
    return Batch(tokens, segments, positions, index, target, np.zeros(losses, np.float32), owner)


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


def pack(examples: Sequence[Encoded], shape: BatchShape) -> Batch:
    """One batch of these examples; they must fit the shape."""
    batch = empty((), shape)
    tokens, segments, positions, index, target, weight, owner = batch
    used = 0
    for row, numbers in enumerate(assign_rows([e.length for e in examples], shape.length)):
        start = 0
        for segment, number in enumerate(numbers, start=1):
            example = examples[number]
            here = slice(start, start + example.length)
            tokens[row, here] = example.tokens
            segments[row, here] = segment
            positions[row, here] = np.arange(example.length)
            (places,) = np.nonzero(example.loss_weight)
            losses = slice(used, used + len(places))
            index[losses] = row * shape.length + start + places - 1
            target[losses] = example.tokens[places]
            owner[losses] = number
            weight[losses] = example.loss_weight[places]
            start, used = here.stop, losses.stop
    return batch


def full_batches(examples: Sequence[Encoded], row_length: int, rows: int) -> list[Batch]:
    """All examples once, in batches of ``rows`` rows and one common shape.

    Rows are as long as the longest example, if that is more than ``row_length``.
    """
    return [batch for _, batch in numbered_batches(examples, row_length, rows)]


def numbered_batches(
    examples: Sequence[Encoded], row_length: int, rows: int
) -> list[tuple[list[int], Batch]]:
    """As ``full_batches``, each batch with the numbers of its examples.

    ``loss_example`` k is the k-th of them.
    """
    row_length = max(row_length, *(example.length for example in examples))
    packed = assign_rows([example.length for example in examples], row_length)
    groups = [
        [number for row in packed[start : start + rows] for number in row]
        for start in range(0, len(packed), rows)
    ]
    losses = max(1, *(sum(examples[n].num_losses for n in group) for group in groups))
    shape = BatchShape(rows, row_length, losses)
    return [(group, pack([examples[n] for n in group], shape)) for group in groups]


def stack(batches: Sequence[Batch]) -> Batch:
    """Batches of one shape along a new first axis."""
    return Batch(*(np.stack(leaves) for leaves in zip(*batches, strict=True)))
