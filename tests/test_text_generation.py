"""Text in, text out, on a tiny model whose tokens are characters."""

import jax.numpy as jnp
import pytest

import lorafuse_jax as lf
from tests.tiny import random_adapter, random_dense, write_tiny_model

PROMPTS = ["one and two", "3 + 4 =", "x"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return lf.load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def adapters(model):
    return [random_adapter(model.params, 1, size=0.3), {}, random_dense(model.params, 2, size=0.2)]


def test_adapters_answer_together_what_each_answers_alone(model, adapters):
    together = lf.generate(model, adapters, PROMPTS, max_new_tokens=9)
    assert len({str(answers) for answers in together}) == 3
    for adapter, answers in zip(adapters, together, strict=True):
        assert [answers] == lf.generate(model, [adapter], PROMPTS, max_new_tokens=9, lanes=1)


def test_samples_stop_strings_and_ensembles(model, adapters):
    settings = {"temperature": 3.0, "max_new_tokens": 12, "seed": 5}
    many = lf.generate(model, adapters[:1], PROMPTS, num_samples=4, **settings)
    assert [len(set(samples)) for samples in many[0]] == [4, 4, 4]
    assert many == lf.generate(model, adapters[:1], PROMPTS, num_samples=4, **settings)
    stop = many[0][0][0][3]
    stopped = lf.generate(model, adapters[:1], PROMPTS, num_samples=4, stop=[stop], **settings)
    assert stopped[0][0][0] == many[0][0][0][: many[0][0][0].index(stop)]
    assert len(lf.generate(model, adapters, PROMPTS, ensemble=True, max_new_tokens=3)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stop_tokens": ["<|im_end|>"]}, "the tokenizer has no token '<|im_end|>'; near: <end>"),
        ({"max_new_tokens": 500}, "request 0 of member 0: 11 tokens of prompt and 500 of answer"),
        ({"num_samples": 0}, "num_samples 0 is below 1"),
        ({"stop": [""], "max_new_tokens": 5}, "an empty stop string"),
    ],
)
def test_bad_settings_are_named(model, adapters, settings, message):
    with pytest.raises(lf.UserError, match=message.replace("|", r"\|")):
        lf.generate(model, adapters, PROMPTS, **settings)


def test_an_adapter_of_another_model_is_refused(model):
    zeros = lf.LoraPair(jnp.zeros((2, 8, 1)), jnp.zeros((2, 1, 8)))
    other = {"layers/self_attn/q_proj": zeros}
    with pytest.raises(lf.UserError, match="it was made for another model"):
        lf.generate(model, [other], PROMPTS)
