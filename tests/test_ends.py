"""Updates of the embedding and of the output head: against PEFT, in training and in decoding."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

import lorafuse_jax as lf
from lorafuse_jax.adapted import batch_log_probs, input_grams
from lorafuse_jax.bank import make_bank
from lorafuse_jax.data.batches import BatchShape, pack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.generation.request import Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.lora import adapter_head_hook, adapter_hook
from lorafuse_jax.models import hub
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.models.head import output_logits
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.types import EMBEDDING, HEAD, DenseDelta, LoraPair, UserError
from tests.models.families import TYPICAL, VOCAB, torch_model
from tests.tiny import tiny_tokenizer

RANK, ALPHA = 3, 6.0
ROUNDING = 3e-5
"""Relative to the largest entry: two orders of summation in float32, over three layers."""

CASES = {
    "llama": ("llama", {"tie_word_embeddings": False}, ("embed_tokens", "lm_head")),
    "llama tied": ("llama", {"tie_word_embeddings": True}, ("embed_tokens", "lm_head")),
    "llama tied, embedding alone": ("llama", {"tie_word_embeddings": True}, ("embed_tokens",)),
    "gemma": ("gemma3_text", {"final_logit_softcapping": 5.0}, ("embed_tokens", "lm_head")),
    "gpt2": ("gpt2", {}, ("wte", "lm_head")),
}
INNER = {"gpt2": ("c_attn", "layers/self_attn/qkv_proj")}
"""A projection of the layers that is adapted beside: its name for PEFT, and for us."""


class Pair(NamedTuple):
    """A model of ours, and the same in PEFT with a random adapter that ``adapter`` holds too."""

    ours: lf.Model
    theirs: torch.nn.Module
    adapter: dict[str, LoraPair]


@pytest.fixture
def make_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "check_vocabulary", lambda *given: None)

    def make(case: str) -> Pair:
        family, changes, ends = CASES[case]
        reference = torch_model(family, 8, TYPICAL[family] | changes)
        reference.save_pretrained(tmp_path / "model")
        tiny_tokenizer().save_pretrained(tmp_path / "model")
        theirs, ours = INNER.get(family, ("down_proj", "layers/mlp/down_proj"))
        settings = {"r": RANK, "lora_alpha": ALPHA, "target_modules": [theirs, *ends]}
        adapted = get_peft_model(reference, LoraConfig(**settings)).eval()
        torch.manual_seed(3)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        return Pair(lf.load_model(tmp_path / "model"), adapted, factors(adapted, ours, theirs))

    return make


def factors(model, inner, name, get=lambda parameter: parameter) -> dict[str, LoraPair]:
    """``get`` of PEFT's factors, as ours are laid out and without their scale."""
    array = lambda parameters: jnp.stack(
        [jnp.asarray(get(p).detach().numpy().T) for p in parameters]
    )  # noqa: E731
    modules = dict(model.base_model.model.named_modules())
    found = {}
    layers = [own for path, own in modules.items() if path.endswith(f".{name}")]
    for module, some in (
        (inner, layers),
        (
            HEAD,
            [own for path, own in modules.items() if path == "lm_head" and hasattr(own, "lora_A")],
        ),
    ):
        if some:
            found[module] = LoraPair(
                array([own.lora_A["default"].weight for own in some]),
                array([own.lora_B["default"].weight for own in some]),
            )
    (table,) = (own for own in modules.values() if getattr(own, "lora_embedding_A", None))
    found[EMBEDDING] = LoraPair(
        array([table.lora_embedding_A["default"]]), array([table.lora_embedding_B["default"]])
    )
    return found


def scaled(adapter):
    return {m: pair._replace(lora_b=pair.lora_b * ALPHA / RANK) for m, pair in adapter.items()}


def draw_tokens(count: int) -> np.ndarray:
    """Without 0, the padding token, whose row PEFT does not train."""
    return np.random.default_rng(5).integers(1, VOCAB, count).astype(np.int32)


@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_equal_pefts(make_pair, case):
    ours, theirs, adapter = make_pair(case)
    tokens = draw_tokens(19)
    logits = theirs(torch.tensor(tokens, dtype=torch.int64)[None]).logits
    expected = logits.detach().numpy()
    found = lf.forward(ours, ours.params, scaled(adapter), jnp.asarray(tokens)[None])
    np.testing.assert_allclose(found, expected, atol=ROUNDING * np.abs(expected).max())
    plain = lf.forward(ours, ours.params, None, jnp.asarray(tokens)[None])
    assert np.abs(found - plain).max() > 0.05 * np.abs(expected).max()

    prompt, answer = tokens[:7], tokens[7:]
    chosen = logits[0, 6:-1].log_softmax(-1)[range(12), torch.tensor(answer, dtype=torch.int64)]
    (-chosen.sum()).backward()
    example = Encoded.from_answer("0", prompt, answer)
    batch = jax.tree.map(jnp.asarray, pack([example], BatchShape(1, 24, 16)))
    rules = [lf.LoraRule(rank=RANK, alpha=ALPHA, targets=module) for module in adapter]

    def loss(adapter):
        log_probs = batch_log_probs(ours.config, ours.params, adapter, batch, rules=rules)
        return -(log_probs * batch.loss_weight).sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(adapter)
    np.testing.assert_allclose(value, -chosen.sum().item(), rtol=ROUNDING)
    family = CASES[case][0]
    theirs_name, ours_name = INNER.get(family, ("down_proj", "layers/mlp/down_proj"))
    reference = factors(theirs, ours_name, theirs_name, lambda parameter: parameter.grad)
    assert grads.keys() == reference.keys()
    for module, pair in reference.items():
        for mine, other in zip(grads[module], pair, strict=True):
            bound = 10 * ROUNDING * np.abs(other).max()
            np.testing.assert_allclose(mine, other, atol=bound)
            assert np.abs(other).max() > 1e-3
