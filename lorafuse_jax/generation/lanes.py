"""The two programs of decoding: read prompts, and go on from them; each jitted once a shape."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.generation import ring as rings
from lorafuse_jax.generation.request import Engine
from lorafuse_jax.generation.ring import Prefix, Ring, Source
from lorafuse_jax.generation.sampling import Choice, Sampling, choose, key_data
from lorafuse_jax.parallel.inside import dealt_rows
from lorafuse_jax.types import Params

STEPS = 8
"""Tokens that are generated between two looks at which rows have ended."""


class Lanes(NamedTuple):
    """R rows that are being decoded, those of each member together.

    Attributes:
        ring: what they have read and written.
        token: the last one chosen, not yet read.
        position: of this token.
        left: how many more may be chosen; 0 where nothing is being generated.
        drawn: how many have been chosen.
        sampling: how.
    """

    ring: Ring
    token: Int[Array, " R"]
    position: Int[Array, " R"]
    left: Int[Array, " R"]
    drawn: Int[Array, " R"]
    sampling: Sampling


class Reading(NamedTuple):
    """Prompts, and references after them, packed into rows.

    Attributes:
        tokens: ids.
        positions: each in its own prompt.
        segments: which prompt, 0 for padding.
        scored: places, in the flattened rows, before each token of a reference; in every row alike,
            where members score together.
        targets: these tokens.
    """

    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    segments: Int[Array, "B T"]
    scored: Int[Array, " M"]
    targets: Int[Array, " M"]


class Read(NamedTuple):
    """What was made of them; ``kept`` are keys and values [L, B, K, T, H]."""

    hidden: Float[Array, "B T D"]
    kept: tuple[Array, Array]


class Scores(NamedTuple):
    """Of the tokens of references: log-probabilities in nats, and whether each is the likeliest."""

    log_probs: Float[Array, " M"]
    best: Bool[Array, " M"]


@partial(jax.jit, static_argnums=0)
def read_prefix(
    engine: Engine, params: Params, bank: Any, tokens: Int[Array, "S P"], length: Int[Array, ""]
) -> Prefix:
    """Read what all prompts begin with; what pads it to P comes after it."""
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    real = places < length
    positions, segments = jnp.where(real, places, 0), real.astype(jnp.int32)
    _, (keys, values) = engine.extend(params, bank, tokens, positions, segments, None)
    return Prefix(keys, values, length)


@partial(jax.jit, static_argnums=(0, 1))
def read(
    engine: Engine, together: bool, params: Params, bank: Any, prefix: Prefix, reading: Reading
) -> tuple[Read, Scores]:
    """Read prompts, or what follows their prefix, and score references.

    Args:
        engine: the model.
        together: the members' rows are alike, and references are scored by all together.
        params: base weights.
        bank: the members' adapters.
        prefix: what comes before the prompts.
        reading: the prompts.
    """
    past, slots = None, prefix.keys.shape[3]
    if slots:
        places = jnp.arange(slots)
        places = jnp.where(places < prefix.length, places, -1)
        past = (*prefix[:2], jnp.broadcast_to(places, (reading.tokens.shape[0], slots)))
    hidden, kept = engine.extend(
        params, bank, reading.tokens, reading.positions + prefix.length, reading.segments, past
    )
    if reading.scored.shape[0]:
        scored = (reading.scored, reading.targets, together)
        scores = Scores(*engine.score(params, bank, hidden, *scored))
    else:
        scores = Scores(jnp.zeros(0), jnp.zeros(0, bool))
    return Read(hidden, tuple(kept)), scores


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
def start(
    engine: Engine,
    choice: Choice,
    params: Params,
    bank: Any,
    lanes: Lanes,
    read: Read,
    prefix: Prefix,
    source: Source,
    sampling: Sampling,
    left: Int[Array, " N"],
) -> tuple[Lanes, Int[Array, " N"]]:
    """Give prompts that were read a lane each, and choose their first tokens.

    Args:
        engine: the model.
        choice: what sampling has to provide for.
        params: base weights.
        bank: the members' adapters.
        lanes: some of them idle.
        read: what ``source`` speaks of.
        prefix: what came before it.
        source: where the prompts are, and which lane each gets.
        sampling: of the new rows; its keys are seeds yet [N].
        left: how many tokens each may have.
    """
    ring = rings.insert(lanes.ring, read.kept, prefix, source)
    sampling = sampling._replace(key=key_data(sampling.key))
    hidden = read.hidden[source.row, source.end - 1]
    token = choose(engine.logits(params, bank, hidden), sampling, jnp.zeros_like(left), choice)
    at = jnp.where(source.lane < 0, lanes.left.shape[0], source.lane)
    put = lambda old, new: old.at[at].set(new, mode="drop")  # noqa: E731
    lanes = Lanes(
        ring,
        put(lanes.token, token),
        put(lanes.position, source.length),
        put(lanes.left, jnp.where(_stops(engine, token), 0, left - 1)),
        put(lanes.drawn, jnp.ones_like(left)),
        jax.tree.map(put, lanes.sampling, sampling),
    )
    return _dealt(lanes), token


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
def go_on(
    engine: Engine, choice: Choice, params: Params, bank: Any, lanes: Lanes
) -> tuple[Lanes, Int[Array, "R steps"]]:
    """Up to ``STEPS`` tokens more of every lane that generates; -1 where there is none."""
    rows = lanes.token.shape[0]

    def unfinished(carry):
        step, lanes, _ = carry
        return (step < STEPS) & (lanes.left > 0).any()

    def one(carry):
        step, lanes, chosen = carry
        active = lanes.left > 0
        hidden, (keys, values) = engine.extend(
            params, bank, lanes.token[:, None], lanes.position[:, None], None, lanes.ring[:3]
        )
        position = jnp.where(active, lanes.position, -1)
        ring = rings.append(lanes.ring, keys, values, position)
        logits = engine.logits(params, bank, hidden[:, 0])
        token = choose(logits, lanes.sampling, lanes.drawn, choice)
        chosen = jax.lax.dynamic_update_slice_in_dim(
            chosen, jnp.where(active, token, -1)[:, None], step, axis=1
        )
        left = jnp.where(active & ~_stops(engine, token), lanes.left - 1, 0)
        more = active.astype(jnp.int32)
        lanes = Lanes(ring, token, lanes.position + more, left, lanes.drawn + more, lanes.sampling)
        return step + 1, lanes, chosen

    nothing = jnp.full((rows, STEPS), -1, jnp.int32)
    _, lanes, chosen = jax.lax.while_loop(
        unfinished, one, (jnp.zeros((), jnp.int32), lanes, nothing)
    )
    return _dealt(lanes), chosen


@jax.jit
def released(lanes: Lanes, row: Int[Array, ""]) -> Lanes:
    """With one row that generates no more."""
    return lanes._replace(left=lanes.left.at[row].set(0))


@partial(jax.jit, static_argnums=1)
def resized(lanes: Lanes, slots: int) -> Lanes:
    """With a ring of another size."""
    return _dealt(lanes._replace(ring=rings.resize(lanes.ring, slots)))


@jax.jit
def narrowed(lanes: Lanes, rows: Int[Array, " M"]) -> Lanes:
    """Some of the lanes only."""
    ring = rings.take_rows(lanes.ring, rows)
    return _dealt(Lanes(ring, *jax.tree.map(lambda x: x[rows], lanes[1:])))


@partial(jax.jit, static_argnums=(0, 1, 2))
def idle(like: jax.ShapeDtypeStruct, rows: int, slots: int) -> Lanes:
    """Lanes in which nothing is generated yet, for keys like these [L, B, K, T, H]."""
    nothing = lambda: jnp.zeros(rows, jnp.int32)  # noqa: E731
    keys = key_data(jnp.zeros(rows, jnp.uint32))
    sampling = Sampling(keys, jnp.zeros(rows), jnp.ones(rows), jnp.zeros(rows))
    ring = rings.empty(like, rows, slots)
    return _dealt(Lanes(ring, nothing(), nothing(), nothing(), nothing(), sampling))


def _dealt(lanes: Lanes) -> Lanes:
    """As all programs of one mesh find them, and leave them."""
    ring = Ring(
        dealt_rows(lanes.ring.keys, 1, heads=2),
        dealt_rows(lanes.ring.values, 1, heads=2),
        dealt_rows(lanes.ring.positions, 0),
        lanes.ring.slot,
    )
    return Lanes(ring, *jax.tree.map(lambda x: dealt_rows(x, 0), lanes[1:]))


def _stops(engine: Engine, token: Array) -> Array:
    return jnp.isin(token, jnp.asarray(engine.stop_tokens, jnp.int32))
