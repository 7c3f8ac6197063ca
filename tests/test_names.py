"""An adapter of GPT-2, whose modules have names of their own, out to PEFT and back."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import PeftModel

from lorafuse_jax.adapted import forward, input_grams
from lorafuse_jax.formats import load_adapter, save_adapter
from lorafuse_jax.formats.targets import last_parts
from lorafuse_jax.models import hub
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.names import fan_in_fan_out, for_files, for_model
from tests.models.families import TYPICAL, VOCAB, torch_model
from tests.tiny import random_adapter, tiny_tokenizer


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """The torch model, and ours."""
    reference = torch_model("gpt2", 8, TYPICAL["gpt2"])
    reference.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    monkeypatch.setattr(hub, "check_vocabulary", lambda *given: None)
    return reference, load_model(tmp_path / "model")


def test_peft_computes_with_our_adapter_what_we_compute(pair, tmp_path):
    reference, model = pair
    adapter = random_adapter(model.params, seed=3, rank=2, size=0.3)
    carried = {
        "target_modules": last_parts(for_files(adapter, model)),
        "fan_in_fan_out": fan_in_fan_out(model),
    }
    out = tmp_path / "adapter"
    files = for_files(adapter, model)
    save_adapter(out, files, base_model="gpt2", provenance={}, carried=carried)
    again = load_adapter(out)
    assert again.keys() == files.keys() and "transformer/h/*/attn/c_attn" in again
    assert for_model(again, model).keys() == adapter.keys()
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, 15))
    plain = forward(model, model.params, None, jnp.asarray(tokens))
    ours = forward(model, model.params, again, jnp.asarray(tokens))
    adapted = PeftModel.from_pretrained(reference, out).eval()
    with torch.no_grad():
        theirs = adapted(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(ours, theirs, atol=3e-5 * np.abs(theirs).max())
    assert np.abs(ours - plain).max() > 0.01 * np.abs(theirs).max()


def test_statistics_of_inputs_have_the_names_of_files(pair):
    _, model = pair
    adapter = for_files(random_adapter(model.params, rank=2), model)
    grams = input_grams(model, adapter, jnp.ones((1, 4), jnp.int32))
    assert grams.keys() == adapter.keys()
