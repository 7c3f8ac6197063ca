"""Serve queues of requests, one queue a member: rows that end make room for the next prompt.

Each member has the same number of lanes. Prompts are read packed, several in a row; each gets a
free lane of its member, and all lanes decode together. Every few steps the rows that have ended
leave, and when enough lanes are free the next prompts are read. So no row waits for the longest
answer of a batch, and no prompt is padded to the longest one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lorafuse_jax.generation.lanes import (
    STEPS,
    Lanes,
    go_on,
    idle,
    narrowed,
    read,
    read_prefix,
    released,
    resized,
    start,
)
from lorafuse_jax.generation.memory import check_fits, foresee, shapes
from lorafuse_jax.generation.packing import LEAST_PREFIX, Row, bucket, pack, shared_prefix, to_read
from lorafuse_jax.generation.request import Answer, Engine, Request, check, check_ids
from lorafuse_jax.generation.ring import Prefix, Source
from lorafuse_jax.generation.sampling import Choice, Sampling
from lorafuse_jax.parallel.inside import row_ways
from lorafuse_jax.types import Params

READ_TOKENS = 256
"""Tokens of each member's prompts that are read at once, if they are not longer."""

Ended = Callable[[Request, list[int]], bool]


def serve(
    engine: Engine,
    params: Params,
    bank: Any,
    queues: Sequence[Sequence[Request]],
    *,
    lanes: int,
    ensemble: bool = False,
    ended: Ended | None = None,
) -> Iterator[Answer]:
    """Answers of every member to its requests, each as soon as it is there.

    Args:
        engine: the model.
        params: base weights, shared by all members.
        bank: the members' adapters, as ``engine.extend`` wants them.
        queues: one a member, in the bank's order; they may be of different length.
        lanes: rows of each member that are decoded at once, at most.
        ensemble: the members answer and score together, by the mean of their logits: all queues are
            the same, and one answer a request comes back, as member 0's.
        ended: whether an answer is complete, beside the engine's stop tokens: a stop string, for
            example. Looked at every ``STEPS`` tokens, so more may have been generated.

    Raises:
        UserError: a request that cannot be served, or more memory is needed than there is; before
            anything is computed.
    """
    for member, queue in enumerate(queues):
        for number, request in enumerate(queue):
            check(request, engine, f"request {number} of member {member}")
    if ensemble and any(len(queue) != len(queues[0]) for queue in queues):
        raise ValueError("the members of an ensemble answer the same requests")
    if not any(map(len, queues)):
        return
    session = _Session(engine, params, bank, queues, lanes, ensemble, ended)
    session.foresee_memory()
    while session.busy():
        while session.should_read():
            yield from session.read_some()
        if session.decoding():
            yield from session.go_on()
        session.narrow()


class _Session:
    def __init__(self, engine, params, bank, queues, lanes, ensemble, ended):
        self.engine, self.params, self.bank, self.ended = engine, params, bank, ended
        self.members, self.ensemble = len(queues), ensemble
        self.waiting = [deque(_by_length(queue)) for queue in queues]
        requests = [request for queue in queues for request in queue]
        self.requests = requests
        self.width = _dealable(max(1, min(lanes, bucket(max(map(len, queues)), 1))))
        self.rows: list[list[Row | None]] = [[None] * self.width for _ in queues]
        self.choice = Choice(
            sampled=any(request.temperature > 0 for request in requests),
            nucleus=any(request.top_p < 1 for request in requests),
            ensemble=self.members if ensemble else 0,
        )
        self.lanes: Lanes | None = None
        self.prefix_tokens = shared_prefix(requests)
        self.prefix: Prefix | None = None
        self.like, self.vocab_size = shapes(engine, params, bank, self.members)
        for member, queue in enumerate(queues):
            for number, request in enumerate(queue):
                check_ids(request, self.vocab_size, f"request {number} of member {member}")

    def foresee_memory(self) -> None:
        longest = max(len(r.prompt) + r.max_new_tokens for r in self.requests)
        reading = max(request.read_length for request in self.requests)
        needed = foresee(
            self.like,
            rows=self.members * self.width,
            slots=bucket(longest + STEPS),
            read_tokens=self.members * bucket(max(reading, READ_TOKENS)),
            vocab_size=self.vocab_size,
        )
        check_fits(needed, self.members * self.width)

    def busy(self) -> bool:
        return self.decoding() or any(self.waiting)

    def decoding(self) -> bool:
        return any(row is not None for rows in self.rows for row in rows)

    def should_read(self) -> bool:
        """Whether enough can be read at once to be worth it, or nothing else is left to do."""
        waiting = sum(map(len, self.waiting))
        if not self.decoding() or not waiting:
            return bool(waiting)
        room = [
            min(len(queue), rows.count(None))
            for queue, rows in zip(self.waiting, self.rows, strict=True)
        ]
        return sum(room) >= min(waiting, self.members * max(1, self.width // 4))

    def read_some(self) -> Iterator[Answer]:
        """Read the next prompts of every member, and give each a lane."""
        if self.prefix is None:
            self.prefix = self._read_prefix()
        taken = [self._take(member) for member in range(self.members)]
        reading, parts = pack(taken, len(self.prefix_tokens), self.ensemble)
        of_model = (self.engine, self.ensemble, self.params, self.bank)
        done, scores = read(*of_model, self.prefix, reading)
        log_probs, best = np.asarray(scores.log_probs), np.asarray(scores.best)
        new = []
        for member, rows in enumerate(taken):
            for row in rows:
                part = parts[member, row.number]
                row.log_probs, row.best = log_probs[part.scored], best[part.scored]
                if row.request.max_new_tokens:
                    lane = self.rows[member].index(None)
                    self.rows[member][lane] = row
                    new.append((member, lane, row, part))
                else:
                    yield from self._answer(member, row)
        if new:
            yield from self._start(done, new)

    def _read_prefix(self) -> Prefix:
        length = jnp.asarray(np.int32(len(self.prefix_tokens)))
        if len(self.prefix_tokens) == 0:
            layers, rows, kv_heads, _, head_dim = self.like.shape
            nothing = jnp.zeros((layers, rows, kv_heads, 0, head_dim), self.like.dtype)
            return Prefix(nothing, nothing, length)
        tokens = np.zeros((self.members, bucket(len(self.prefix_tokens), LEAST_PREFIX)), np.int32)
        tokens[:, : len(self.prefix_tokens)] = self.prefix_tokens
        return read_prefix(self.engine, self.params, self.bank, jnp.asarray(tokens), length)

    def _take(self, member: int) -> list[Row]:
        queue, free = self.waiting[member], self.rows[member].count(None)
        taken, tokens = [], 0
        while queue:
            number, request = queue[0]
            before = taken[-1].request if taken else None
            length = to_read(request, len(self.prefix_tokens), before)
            if (taken and tokens + length > READ_TOKENS) or (request.max_new_tokens and not free):
                break
            queue.popleft()
            tokens += length
            free -= request.max_new_tokens > 0
            taken.append(Row(number, request, np.zeros(0), np.zeros(0, bool)))
        return taken

    def _start(self, done, new) -> Iterator[Answer]:
        self._fit(max(row.length for _, _, row, _ in new))
        assert self.lanes is not None
        count = self.members * bucket(
            max(sum(m == member for m, *_ in new) for member in range(self.members)), 1
        )
        lane = np.full(count, -1, np.int32)
        row, end, length, left = (np.ones(count, np.int32) for _ in range(4))
        row[:] = 0
        rates = np.zeros((3, count), np.float32)
        seeds = np.zeros(count, np.uint32)
        # An ensemble's logits are averaged member by member, so every member has as many rows.
        place = {m: m * (count // self.members) for m in range(self.members)}
        places = []
        for member, number, one, part in new:
            at = place[member]
            place[member] += 1
            places.append(at)
            lane[at] = member * self.width + number
            row[at], end[at], length[at] = member, part.end, len(one.request.prompt)
            left[at] = one.request.max_new_tokens
            rates[:, at] = one.request.temperature, one.request.top_p, one.request.min_p
            seeds[at] = one.request.seed % 2**32
        self.lanes, first = start(
            self.engine,
            self.choice,
            self.params,
            self.bank,
            self.lanes,
            done,
            self.prefix,
            Source(*map(jnp.asarray, (lane, row, end, length))),
            Sampling(*map(jnp.asarray, (seeds, *rates))),
            jnp.asarray(left),
        )
        first = np.asarray(first)
        for (member, number, _, _), at in zip(new, places, strict=True):
            yield from self._grown(member, number, first[at : at + 1])

    def go_on(self) -> Iterator[Answer]:
        """A few tokens more of every row that is being decoded."""
        self._fit(max(row.length for rows in self.rows for row in rows if row is not None))
        assert self.lanes is not None
        self.lanes, chosen = go_on(self.engine, self.choice, self.params, self.bank, self.lanes)
        chosen = np.asarray(chosen).reshape(self.members, self.width, STEPS)
        for member in range(self.members):
            for lane in range(self.width):
                if self.rows[member][lane] is not None:
                    yield from self._grown(member, lane, chosen[member, lane])

    def _grown(self, member: int, lane: int, tokens: np.ndarray) -> Iterator[Answer]:
        """Add tokens to a row; where it has ended, it leaves."""
        row = self.rows[member][lane]
        assert row is not None
        stopped = False
        for token in tokens[tokens >= 0].tolist():
            stopped = token in self.engine.stop_tokens
            if not stopped:
                row.tokens.append(token)
        full = len(row.tokens) >= row.request.max_new_tokens
        cut = not stopped and self.ended is not None and self.ended(row.request, row.tokens)
        if cut and not full:
            assert self.lanes is not None
            at = member * self.width + lane
            self.lanes = released(self.lanes, jnp.asarray(np.int32(at)))
        if stopped or full or cut:
            self.rows[member][lane] = None
            yield from self._answer(member, row)

    def _answer(self, member: int, row: Row) -> Iterator[Answer]:
        if member == 0 or not self.ensemble:
            tokens = np.array(row.tokens, np.int32)
            yield Answer(member, row.number, tokens, row.log_probs, row.best)

    def _fit(self, longest: int) -> None:
        """A ring that holds the longest row for some steps more, and is not needlessly large."""
        slots = bucket(longest + STEPS)
        if self.lanes is None:
            self.lanes = idle(self.like, self.members * self.width, slots)
            return
        have = self.lanes.ring.positions.shape[1]
        others = [row.length for rows in self.rows for row in rows if row is not None]
        slots = bucket(max([longest, *others]) + STEPS)
        if slots > have or slots <= have // 2:
            self.lanes = resized(self.lanes, slots)

    def narrow(self) -> None:
        """Once nothing waits, idle lanes leave: the batch becomes half as wide, again and again."""
        if self.lanes is None or any(self.waiting) or not self.decoding():
            return
        live = max(len(rows) - rows.count(None) for rows in self.rows)
        width = _dealable(bucket(live, 1))
        if live > self.width // 2 or width >= self.width:
            return
        order = [
            sorted(range(self.width), key=lambda lane, rows=rows: rows[lane] is None)[:width]
            for rows in self.rows
        ]
        if self.ensemble:
            order = [order[0]] * self.members
        flat = [member * self.width + lane for member, some in enumerate(order) for lane in some]
        self.lanes = narrowed(self.lanes, jnp.asarray(flat))
        self.rows = [[rows[i] for i in some] for rows, some in zip(self.rows, order, strict=True)]
        self.width = width


def _dealable(width: int) -> int:
    """Lanes of a member that can be dealt out to all groups of devices equally."""
    ways = row_ways()
    return -(-width // ways) * ways


def _by_length(queue: Sequence[Request]) -> list[tuple[int, Request]]:
    """Numbered, shortest first: neighbours are of similar length."""
    numbered = list(enumerate(queue))
    return sorted(numbered, key=lambda pair: pair[1].read_length)
