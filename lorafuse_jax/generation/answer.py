"""Answer prompts and score references for many adapters at once, over one base.

One jitted program a bucket of shapes: the prompts of all members are prefilled together, the
reference answers are scored from that cache, and greedy decoding goes on from it too, so that each
prompt is read once.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from lorafuse_jax.types import Adapter, Params

PROMPT_BUCKET = 16
"""Prompts and references are padded to multiples of this many tokens, to compile few shapes."""


class Engine(NamedTuple):
    """What decoding needs of a model, as pure functions; hashable, so jit may close over it.

    Attributes:
        empty_cache: ``(rows, slots)`` -> cache.
        extend: ``(params, stacked, tokens, present, cache)`` -> hidden states [SB, T, D], cache.
        logits: ``(params, hidden [SB, D])`` -> [SB, V].
        log_probs: ``(params, hidden [M, D], targets [M])`` -> [M].
        stop_token: the token that ends an answer.
    """

    empty_cache: Callable[[int, int], Any]
    extend: Callable[..., tuple[Array, Any]]
    logits: Callable[[Params, Array], Array]
    log_probs: Callable[[Params, Array, Array], Array]
    stop_token: int


class Question(NamedTuple):
    """A prompt and its reference answer (which ends with the stop token), as token ids."""

    prompt: np.ndarray
    reference: np.ndarray


class Answer(NamedTuple):
    """What one member makes of one question.

    Attributes:
        tokens: generated ids, without the stop token.
        log_prob: of the reference given the prompt, nats.
    """

    tokens: np.ndarray
    log_prob: float


def answer(
    engine: Engine,
    params: Params,
    stacked: Adapter,
    questions: Sequence[Question],
    *,
    rows: int,
    max_new_tokens: int,
) -> Iterator[tuple[list[int], list[list[Answer]]]]:
    """Greedy answers of every member to every question, batch by batch.

    Args:
        engine: the model.
        params: base weights, shared by all members.
        stacked: adapters [S, L, ...] of one kind, with their scale; empty for the base model.
        questions: E of them.
        rows: questions a batch; each becomes S rows.
        max_new_tokens: where an answer without a stop token is cut.

    Yields:
        The numbers of a batch's questions, shortest prompts first, and per member its answers.
    """
    members = jax.tree.leaves(stacked)[0].shape[0] if stacked else 1
    order = sorted(range(len(questions)), key=lambda e: len(questions[e].prompt))
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        # A short last batch is filled up, so that it has the shape of the others.
        filled = chosen + [chosen[-1]] * (rows - len(chosen))
        prompt, present = _pad([questions[e].prompt for e in filled], left=True)
        reference, scored = _pad([questions[e].reference for e in filled], left=False)
        repeat = lambda x: np.tile(x, (members, 1))  # noqa: E731
        generated, log_probs = _answer_batch(
            engine,
            max_new_tokens,
            params,
            stacked,
            *map(repeat, (prompt, present, reference, scored)),
        )
        generated = np.asarray(generated).reshape(members, rows, max_new_tokens)
        log_probs = np.asarray(log_probs).reshape(members, rows)
        yield (
            chosen,
            [
                [
                    Answer(_until(generated[s, b], engine.stop_token), float(log_probs[s, b]))
                    for b in range(len(chosen))
                ]
                for s in range(members)
            ],
        )


def _pad(sequences: list[np.ndarray], *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    length = -(-max(map(len, sequences)) // PROMPT_BUCKET) * PROMPT_BUCKET
    tokens = np.zeros((len(sequences), length), np.int32)
    present = np.zeros((len(sequences), length), bool)
    for row, sequence in enumerate(sequences):
        at = slice(length - len(sequence), None) if left else slice(0, len(sequence))
        tokens[row, at] = sequence
        present[row, at] = True
    return tokens, present


def _until(tokens: np.ndarray, stop_token: int) -> np.ndarray:
    stops = np.flatnonzero(tokens == stop_token)
    return tokens[: stops[0]] if len(stops) else tokens


@partial(jax.jit, static_argnums=(0, 1))
def _answer_batch(
    engine: Engine,
    max_new_tokens: int,
    params: Params,
    stacked: Adapter,
    prompt: Int[Array, "SB P"],
    present: Bool[Array, "SB P"],
    reference: Int[Array, "SB C"],
    scored: Bool[Array, "SB C"],
) -> tuple[Int[Array, "SB new"], Float[Array, " SB"]]:
    rows, prompt_length = prompt.shape
    slots = prompt_length + max(max_new_tokens, reference.shape[1])
    cache = engine.empty_cache(rows, slots)
    hidden, cache = engine.extend(params, stacked, prompt, present, cache)
    last = hidden[:, -1]
    log_probs = _score(engine, params, stacked, last, cache, reference, scored)
    generated = _greedy(engine, max_new_tokens, params, stacked, last, cache)
    return generated, log_probs


def _score(engine, params, stacked, last, cache, reference, scored) -> Float[Array, " SB"]:
    rows, length = reference.shape
    hidden, _ = engine.extend(params, stacked, reference[:, :-1], scored[:, :-1], cache)
    hidden = jnp.concatenate([last[:, None], hidden], axis=1)
    flat = engine.log_probs(params, hidden.reshape(rows * length, -1), reference.reshape(-1))
    return jnp.where(scored, flat.reshape(rows, length), 0).sum(axis=1)


def _greedy(engine, max_new_tokens, params, stacked, last, cache) -> Int[Array, "SB new"]:
    rows = last.shape[0]

    def unfinished(carry):
        step, _, _, done, _ = carry
        return (step < max_new_tokens) & ~done.all()

    def decode(carry):
        step, last, cache, done, generated = carry
        chosen = jnp.argmax(engine.logits(params, last), axis=-1).astype(jnp.int32)
        token = jnp.where(done, engine.stop_token, chosen)
        generated = jax.lax.dynamic_update_slice_in_dim(generated, token[:, None], step, axis=1)
        done = done | (token == engine.stop_token)
        present = jnp.ones((rows, 1), bool)
        hidden, cache = engine.extend(params, stacked, token[:, None], present, cache)
        return step + 1, hidden[:, 0], cache, done, generated

    generated = jnp.full((rows, max_new_tokens), engine.stop_token, jnp.int32)
    start = (jnp.zeros((), jnp.int32), last, cache, jnp.zeros(rows, bool), generated)
    return jax.lax.while_loop(unfinished, decode, start)[-1]
