"""What is asked of a model, and what comes back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from lorafuse_jax.types import Params, UserError


class Engine(NamedTuple):
    """What decoding needs of a model, as pure functions; hashable, so jit may close over it.

    Attributes:
        extend: ``(params, bank, tokens, positions, segments, past)`` -> hidden states [B, T, D]
            and their keys and values, each [L, B, K, T, H]. ``past`` is None or (keys, values,
            positions).
        logits: ``(params, bank, hidden [B, D])`` -> [B, V], of as many rows of each member.
        score: ``(params, bank, hidden [S, T, D], places [M], targets [M], together)`` ->
            log-probabilities [M], and whether the target is the most likely token, of places in the
            flattened rows; if all members score together, by the mean of their logits, of places
            that are the same in every row.
        stop_tokens: those that end an answer.
        context_length: most tokens of prompt and answer together.
    """

    extend: Callable[..., tuple[Array, Any]]
    logits: Callable[[Params, Any, Array], Array]
    score: Callable[[Params, Any, Array, Array, Array, bool], tuple[Array, Array]]
    stop_tokens: tuple[int, ...]
    context_length: int


class Request(NamedTuple):
    """A prompt, and what to do with it: answer it, score a reference, or both.

    Attributes:
        prompt: token ids, at least one.
        max_new_tokens: where an answer without a stop token is cut; 0 generates nothing.
        reference: token ids whose log-probability after the prompt is wanted; may be empty.
        temperature: logits are divided by it; 0 is greedy.
        top_p: sample from the most likely tokens that together have this probability (nucleus
            sampling, arXiv 1904.09751), in (0, 1].
        min_p: and from those with at least this share of the largest probability (2407.01082),
            in [0, 1).
        seed: of the sample: it depends on this and the model alone, not on the batch.
        stop_strings: end an answer too, with ``stops.ends_at_stop_strings``.
    """

    prompt: np.ndarray
    max_new_tokens: int = 0
    reference: np.ndarray = np.zeros(0, np.int32)
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop_strings: tuple[str, ...] = ()

    @property
    def read_length(self) -> int:
        """Tokens that are read: a reference's last token is only predicted."""
        return len(self.prompt) + max(0, len(self.reference) - 1)


class Answer(NamedTuple):
    """What one member makes of one request.

    Attributes:
        member: its number.
        request: number of the request in the member's queue.
        tokens: generated ids, without the stop token.
        log_probs: of each token of the reference, nats.
        best: whether each is the token that greedy decoding would choose.
    """

    member: int
    request: int
    tokens: np.ndarray
    log_probs: np.ndarray
    best: np.ndarray


def samples(request: Request, count: int) -> list[Request]:
    """``count`` requests for the same prompt, each with a seed of its own."""
    key = jax.random.key(request.seed)
    draw = lambda number: jax.random.bits(jax.random.fold_in(key, number))  # noqa: E731
    seeds = np.asarray(jax.vmap(draw)(np.arange(count)))
    return [request._replace(seed=int(seed)) for seed in seeds]


def check(request: Request, engine: Engine, where: str) -> None:
    """Raise UserError for a request that cannot be served."""
    prompt = len(request.prompt)
    if not prompt:
        raise UserError(f"{where}: the prompt has no tokens")
    longest = max(prompt + request.max_new_tokens, request.read_length)
    if longest > engine.context_length:
        raise UserError(
            f"{where}: {prompt} tokens of prompt and {longest - prompt} of answer are "
            f"{longest - engine.context_length} more than the {engine.context_length} of the "
            "model's context; shorten the prompt or ask for fewer new tokens"
        )
    if "" in request.stop_strings:
        raise UserError(f"{where}: an empty stop string would end every answer at once")
    if request.temperature < 0:
        raise UserError(f"{where}: temperature {request.temperature} is below 0")
    if not 0 < request.top_p <= 1:
        raise UserError(f"{where}: top_p {request.top_p} is not in (0, 1]")
    if not 0 <= request.min_p < 1:
        raise UserError(f"{where}: min_p {request.min_p} is not in [0, 1)")


def check_ids(request: Request, vocab_size: int, where: str) -> None:
    """Raise UserError for a token that the model has no embedding for."""
    for ids in (request.prompt, request.reference):
        if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise UserError(
                f"{where}: token id {wrong} is not in [0, {vocab_size}), the model's vocabulary; "
                "was a token added to the tokenizer, or is it another model's?"
            )
