"""Greedy answers of the real model against transformers' ``generate``, adapters and all."""

import jax
import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.assets import fetch
from lorafuse_jax.bank import make_bank
from lorafuse_jax.formats import save_adapter
from lorafuse_jax.generation.request import Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.text_generation import make_engine
from tests.tiny import random_adapter

pytestmark = pytest.mark.real

PROMPTS = (
    "Question: A boy has 13 pencils, his sister 3 fewer. How many do both have?\nAnswer:",
    "def fibonacci(n):\n",
    "The capital of France is",
    "Water boils at",
    "Once upon a time, in a village by the sea, there lived an old fisherman who",
)
NEW_TOKENS = 24


def test_answers_equal_those_of_transformers_token_for_token(tmp_path):
    """Each of: base, a low-rank and a dense adapter; together, and each by itself."""
    folder = fetch("smollm2-135m-instruct")
    model = load_model(folder)
    low = [random_adapter(model.params, seed, rank=4, size=0.004) for seed in range(2)]
    adapters = [{}, low[0], to_delta(low[1])]
    queue = [
        Request(np.array(model.tokenizer(text)["input_ids"], np.int32), NEW_TOKENS)
        for text in PROMPTS
    ]
    engine = make_engine(model)

    def ask(adapters):
        bank = make_bank(adapters)
        answers = serve(engine, model.params, bank, [queue] * len(adapters), lanes=3)
        return {(one.member, one.request): one.tokens.tolist() for one in answers}

    together = ask(adapters)
    expected = theirs(folder, queue, low, tmp_path, model.stop_tokens)
    assert len({tuple(tokens) for tokens in expected.values()}) > len(queue)
    assert together == expected
    assert {n: tokens for (_, n), tokens in ask(adapters[2:]).items()} == {
        n: tokens for (member, n), tokens in together.items() if member == 2
    }
    jax.clear_caches()


def theirs(folder, queue, low, tmp_path, stop_tokens):
    found = {}
    for member, adapter in enumerate([None, *low]):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if adapter is not None:
            save_adapter(tmp_path / str(member), adapter, base_model=str(folder), provenance={})
            model = PeftModel.from_pretrained(model, tmp_path / str(member))
        for number, request in enumerate(queue):
            ids = torch.tensor(request.prompt[None], dtype=torch.long)
            with torch.no_grad():
                out = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=NEW_TOKENS,
                    do_sample=False,
                    pad_token_id=0,
                )
            tokens = out[0, len(request.prompt) :].tolist()
            stops = [place for place, token in enumerate(tokens) if token in stop_tokens]
            found[member, number] = tokens[: stops[0]] if stops else tokens
    return found
