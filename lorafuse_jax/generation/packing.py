"""Prompts packed into rows, so that few shapes are compiled and little is wasted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from lorafuse_jax.generation.lanes import Reading
from lorafuse_jax.generation.request import Request

LEAST_PREFIX = 8
"""A shorter shared prefix is not worth a program of its own."""


@dataclass
class Row:
    """A request in work."""

    number: int
    request: Request
    log_probs: np.ndarray
    best: np.ndarray
    tokens: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the answer so far."""
        return len(self.request.prompt) + len(self.tokens)


@dataclass(frozen=True)
class Part:
    """Where a request lies in what is read: one past its prompt, and its scored tokens."""

    end: int
    scored: slice


def shared_prefix(requests: Sequence[Request]) -> np.ndarray:
    """What all prompts begin with, but for at least one token each; empty if it is short.

    A system prompt, or few-shot examples: they are read once, not once a prompt.
    """
    first = requests[0].prompt
    length = min(len(request.prompt) for request in requests) - 1
    for request in requests:
        different = np.flatnonzero(request.prompt[:length] != first[:length])
        length = int(different[0]) if len(different) else length
    worth_it = len(requests) > 1 and length >= LEAST_PREFIX
    return first[:length] if worth_it else first[:0]


def to_read(request: Request, shared: int, before: Request | None) -> int:
    """Tokens that must be read for a request, beside the ``shared`` first ones of all prompts.

    There are none where ``before``, which lies just before it in the same row, has the same prompt,
    and at most one token of reference is scored after it: another sample, or the next of the
    letters that a question is answered with.
    """
    same = before is not None and np.array_equal(request.prompt, before.prompt)
    return 0 if same and len(request.reference) <= 1 else request.read_length - shared


def pack(
    taken: Sequence[Sequence[Row]], shared: int, together: bool
) -> tuple[Reading, dict[tuple[int, int], Part]]:
    """Each member's prompts without their first ``shared`` tokens, and references, in one row.

    Gives also where each lies, by member and number of the request. Members that score together
    have the same rows, and those of the first say for all where tokens are scored.
    """
    lengths = [_lengths(rows, shared) for rows in taken]
    shape = (len(taken), bucket(max(map(sum, lengths))))
    tokens, positions, segments = (np.zeros(shape, np.int32) for _ in range(3))
    scored: list[int] = []
    targets: list[int] = []
    parts = {}
    for member, rows in enumerate(taken):
        end = stop = 0
        for segment, (row, length) in enumerate(zip(rows, lengths[member], strict=True), start=1):
            prompt, reference = row.request.prompt[shared:], row.request.reference
            if length:
                at, end, stop = stop, stop + len(prompt), stop + length
                tokens[member, at:end], tokens[member, end:stop] = prompt, reference[:-1]
                positions[member, at:stop] = np.arange(stop - at)
                segments[member, at:stop] = segment
            before = member * shape[1] + end - 1
            first = len(scored)
            if member == 0 or not together:
                scored.extend(range(before, before + len(reference)))
                targets.extend(reference.tolist())
            parts[member, row.number] = Part(end, slice(first, len(scored)))
    filler = [0] * (bucket(len(scored)) - len(scored) if scored else 0)
    as_array = lambda numbers: jnp.asarray(np.array(numbers + filler, np.int32))  # noqa: E731
    reading = Reading(
        jnp.asarray(tokens),
        jnp.asarray(positions),
        jnp.asarray(segments),
        as_array(scored),
        as_array(targets),
    )
    return reading, parts


def _lengths(rows: Sequence[Row], shared: int) -> list[int]:
    before = [None, *(row.request for row in rows)]
    return [to_read(row.request, shared, b) for row, b in zip(rows, before, strict=False)]


def bucket(size: int, least: int = 32) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, ...: few shapes to compile, at most a third wasted."""
    power = least
    while power < size:
        if power * 3 // 2 >= size and power > 1:
            return power * 3 // 2
        power *= 2
    return power
