from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapted import extend_rows
from lorafuse_jax.adapter import stack, take
from lorafuse_jax.generation.answer import Engine, Question, answer
from lorafuse_jax.lora import adapter_hook
from lorafuse_jax.models.cache import empty_cache
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.models.head import output_logits, token_log_probs
from tests.tiny import random_adapter, random_dense, tiny_config, tiny_params

CONFIG = tiny_config()
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def params():
    return tiny_params(CONFIG)


def engine(stop_token):
    return Engine(
        partial(empty_cache, CONFIG),
        partial(extend_rows, CONFIG),
        partial(output_logits, CONFIG),
        partial(token_log_probs, CONFIG),
        stop_token,
    )


def questions(seed, count=5):
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.integers(1, 97, rng.integers(low, high)).astype(np.int32)  # noqa: E731
    return [Question(draw(2, 30), draw(1, 20)) for _ in range(count)]


def ask(params, stacked, asked, stop_token, rows=2):
    answers = {}
    for chosen, by_member in answer(
        engine(stop_token), params, stacked, asked, rows=rows, max_new_tokens=NEW_TOKENS
    ):
        for member, row in enumerate(by_member):
            for number, one in zip(chosen, row, strict=True):
                answers[member, number] = one
    return answers


@jax.jit
def _logits(params, adapter, tokens):
    hook = adapter_hook(adapter) if adapter else None
    hidden = hidden_states(CONFIG, params, tokens, hook=hook)
    return output_logits(CONFIG, params, hidden)[0]


def logits_of(params, adapter, tokens):
    """Of the whole sequence at once; what pads it to one shape comes after it and is not seen."""
    padded = np.zeros((1, 64), np.int32)
    padded[0, : len(tokens)] = tokens
    return np.asarray(_logits(params, adapter, jnp.asarray(padded)), np.float64)[: len(tokens)]


def slow_greedy(params, adapter, prompt, stop_token):
    tokens = list(prompt)
    for _ in range(NEW_TOKENS):
        tokens.append(int(logits_of(params, adapter, tokens)[-1].argmax()))
        if tokens[-1] == stop_token:
            return tokens[len(prompt) : -1]
    return tokens[len(prompt) :]


def slow_log_prob(params, adapter, question):
    tokens = np.concatenate([question.prompt, question.reference])
    logits = logits_of(params, adapter, tokens)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    places = range(len(question.prompt) - 1, len(tokens) - 1)
    return sum(logits[place, tokens[place + 1]] for place in places)


def members_of(kind, params):
    if kind == "base":
        return {}
    if kind == "dense":
        return stack([random_dense(params, seed) for seed in range(2)])
    return stack([random_adapter(params, seed, rank=2 + seed) for seed in range(3)])


@pytest.mark.parametrize("kind", ["base", "low rank", "dense"])
def test_answers_equal_decoding_each_member_alone_without_a_cache(params, kind):
    stacked = members_of(kind, params)
    asked = questions(seed=17)
    first = slow_greedy(params, take(stacked, 0) if stacked else None, asked[0].prompt, -1)
    stop_token = first[4]  # a token that really is generated, so that stopping is exercised
    answers = ask(params, stacked, asked, stop_token)
    members = jax.tree.leaves(stacked)[0].shape[0] if stacked else 1
    assert len(answers) == members * len(asked)
    for (member, number), one in answers.items():
        adapter = take(stacked, member) if stacked else None
        assert one.tokens.tolist() == slow_greedy(params, adapter, asked[number].prompt, stop_token)
        expected = slow_log_prob(params, adapter, asked[number])
        np.testing.assert_allclose(one.log_prob, expected, rtol=1e-4, atol=1e-3)
    assert len(answers[0, 0].tokens) <= 4


def test_answers_do_not_depend_on_the_batch(params):
    stacked = members_of("low rank", params)
    asked = questions(seed=23)
    by_two, by_five = (ask(params, stacked, asked, 0, rows=rows) for rows in (2, 5))
    for place, one in by_two.items():
        assert one.tokens.tolist() == by_five[place].tokens.tolist()
        np.testing.assert_allclose(one.log_prob, by_five[place].log_prob, rtol=1e-4)
