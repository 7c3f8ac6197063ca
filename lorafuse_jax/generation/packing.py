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


def pack(
    taken: Sequence[Sequence[Row]], shared: int
) -> tuple[Reading, dict[tuple[int, int], Part]]:
    """Each member's prompts without their first ``shared`` tokens, and references, in one row.

    Gives also where each lies, by member and number of the request.
    """
    longest = max(sum(row.request.read_length - shared for row in rows) for rows in taken)
    shape = (len(taken), bucket(longest))
    tokens, positions, segments = (np.zeros(shape, np.int32) for _ in range(3))
    scored: list[int] = []
    targets: list[int] = []
    parts = {}
    for member, rows in enumerate(taken):
        at = 0
        for segment, row in enumerate(rows, start=1):
            prompt, reference = row.request.prompt[shared:], row.request.reference
            end, stop = at + len(prompt), at + row.request.read_length - shared
            tokens[member, at:end], tokens[member, end:stop] = prompt, reference[:-1]
            positions[member, at:stop] = np.arange(stop - at)
            segments[member, at:stop] = segment
            before = member * shape[1] + end - 1
            first = len(scored)
            scored.extend(range(before, before + len(reference)))
            targets.extend(reference.tolist())
            parts[member, row.number] = Part(end, slice(first, len(scored)))
            at = stop
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


def bucket(size: int, least: int = 32) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, ...: few shapes to compile, at most a third wasted."""
    power = least
    while power < size:
        if power * 3 // 2 >= size and power > 1:
            return power * 3 // 2
        power *= 2
    return power
