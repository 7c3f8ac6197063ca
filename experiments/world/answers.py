"""What models of the controlled world answer: distributions over every token of every answer.

An answer is right if each of its tokens, the end included, is the likeliest after the right ones
before it. That is the case exactly where greedy decoding writes the answer, and takes one forward
pass. Ensembles of outputs need no model again: they are means of the distributions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.bank import make_bank
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.generation.request import Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.models.head import output_logits
from lorafuse_jax.models.hub import Model
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.types import Adapter, Params

LANES = 32
"""Answers of a member that are decoded at once for the vote."""


class Questions(NamedTuple):
    """Problems as arrays; A is the longest answer, its end included.

    Attributes:
        tokens: prompt and answer, then padding.
        places: of the token before each token of the answer.
        targets: the tokens of the answer.
        counted: which of them there are.
        encoded: the same, one by one.
    """

    tokens: Int[np.ndarray, "E T"]
    places: Int[np.ndarray, "E A"]
    targets: Int[np.ndarray, "E A"]
    counted: np.ndarray
    encoded: Sequence[Encoded]


class Marks(NamedTuple):
    """What answers are worth.

    Attributes:
        right: whether greedy decoding writes the answer.
        log_likelihood: of the answer, nats a token.
    """

    right: np.ndarray
    log_likelihood: Float[np.ndarray, " E"]


def questions_of(encoded: Sequence[Encoded]) -> Questions:
    """Pad them to the longest."""
    count, length = len(encoded), max(one.length for one in encoded)
    longest = max(len(one.completion) for one in encoded)
    tokens = np.zeros((count, length), np.int32)
    places, targets = (np.zeros((count, longest), np.int32) for _ in range(2))
    counted = np.zeros((count, longest), bool)
    for number, one in enumerate(encoded):
        size = len(one.completion)
        tokens[number, : one.length] = one.tokens
        places[number, :size] = np.arange(size) + one.answer_start - 1
        targets[number, :size] = one.completion
        counted[number, :size] = True
    return Questions(tokens, places, targets, counted, encoded)


Ask = Callable[[Adapter, Questions], Float[Array, "E A V"]]


def make_asker(model: Model) -> Ask:
    """``(adapter, questions) -> log-probabilities [E, A, V]``, nats; ``{}`` asks the base."""

    @jax.jit
    def ask(params: Params, adapter: Adapter, tokens: Array, places: Array) -> Array:
        hidden = hidden_states(model.config, merge_into(params, adapter), tokens, remat="nothing")
        hidden = jnp.take_along_axis(hidden, places[..., None], axis=1)
        return jax.nn.log_softmax(output_logits(model.config, params, hidden))

    return lambda adapter, questions: ask(model.params, adapter, questions.tokens, questions.places)


def mark(log_probs: Float[Array, "E A V"], questions: Questions) -> Marks:
    """Right or wrong, and how likely the right answer was."""
    found = np.asarray(log_probs)
    likely = np.take_along_axis(found, questions.targets[..., None], axis=-1)[..., 0]
    alike = (found.argmax(axis=-1) == questions.targets) | ~questions.counted
    total = (likely * questions.counted).sum(axis=1)
    return Marks(alike.all(axis=1), total / questions.counted.sum(axis=1))


def ensemble(log_probs: Float[Array, "S E A V"]) -> Float[Array, "E A V"]:
    """The members' mean logits, which is a mean of log-probabilities but for a constant."""
    return jax.nn.log_softmax(jnp.mean(log_probs, axis=0))


def written(model: Model, members: Sequence[Adapter], questions: Questions) -> list[list[str]]:
    """The answers that greedy decoding writes: their tokens' ids, by member and question."""
    longest = questions.targets.shape[1] + 1
    queue = [Request(one.prompt, max_new_tokens=longest) for one in questions.encoded]
    answers = [[""] * len(queue) for _ in members]
    queues = [queue for _ in members]
    parts = serve(make_engine(model), model.params, make_bank(members), queues, lanes=LANES)
    for one in parts:
        answers[one.member][one.request] = " ".join(map(str, one.tokens))
    return answers
