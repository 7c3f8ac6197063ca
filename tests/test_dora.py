"""DoRA: forward, gradients, deltas and files against PEFT's."""

import jax
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file

from lorafuse_jax.adapted import batch_log_probs, forward
from lorafuse_jax.dora import dora_deltas, with_magnitudes
from lorafuse_jax.formats import load_adapter
from lorafuse_jax.formats.dora import is_dora, load_dora, save_dora
from lorafuse_jax.lora import LoraRule, scaled
from lorafuse_jax.models.quantized import quantize_params
from lorafuse_jax.types import DoraPair, LoraPair, UserError
from tests.tiny import random_adapter, tiny_config, tiny_params
from tests.torch_twin import (
    MODULES,
    PATTERN,
    TARGETS,
    batch,
    make_twin,
    stacked,
    tokens,
    torch_logits,
    torch_loss,
    torch_module,
)

RULES = (LoraRule(targets=PATTERN, rank=3, alpha=6.0),)
TORCH = 1e-4
"""Logits are up to 30, and torch and XLA add up in different orders."""


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("twin") / "model")


@pytest.fixture(scope="module")
def peft_model(twin):
    """PEFT's, moved away from its start in all three parts."""
    config = LoraConfig(use_dora=True, r=3, lora_alpha=6, target_modules=list(TARGETS))
    model = get_peft_model(twin.theirs(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for module in MODULES:
            for layer in (0, 1):
                own = torch_module(model, module, layer)
                own.lora_B["default"].weight.normal_(std=0.2)
                own.lora_magnitude_vector["default"].weight.mul_(
                    1 + 0.3 * torch.randn_like(own.lora_magnitude_vector["default"].weight)
                )
    return model


@pytest.fixture(scope="module")
def adapter(peft_model):
    return {
        module: DoraPair(
            stacked(peft_model, module, lambda own: own.lora_A["default"].weight.T),
            stacked(peft_model, module, lambda own: own.lora_B["default"].weight.T),
            stacked(peft_model, module, lambda own: own.lora_magnitude_vector["default"].weight),
        )
        for module in MODULES
    }


def test_loss_and_gradients_equal_pefts(twin, peft_model, adapter):
    def loss(adapter):
        model = twin.ours
        some = batch()
        each = batch_log_probs(model.config, model.params, adapter, some, rules=RULES)
        return -(each * some.loss_weight).sum()

    value, grads = jax.value_and_grad(loss)(adapter)
    peft_model.zero_grad()
    theirs = torch_loss(peft_model)
    theirs.backward()
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    for module in MODULES:
        for ours, get in zip(
            grads[module],
            (
                lambda own: own.lora_A["default"].weight.grad.T,
                lambda own: own.lora_B["default"].weight.grad.T,
                lambda own: own.lora_magnitude_vector["default"].weight.grad,
            ),
            strict=True,
        ):
            expected = stacked(peft_model, module, get)
            bound = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(ours, expected, atol=bound)


def test_delta_gives_pefts_logits(twin, peft_model, adapter):
    delta = dora_deltas(scaled(adapter, RULES), twin.ours.params)
    ours = forward(twin.ours, twin.ours.params, delta, tokens()[None])
    np.testing.assert_allclose(ours, torch_logits(peft_model), atol=TORCH)
    base = forward(twin.ours, twin.ours.params, None, tokens()[None])
    assert np.abs(base - ours).max() > 0.1


def test_file_loads_in_peft_with_the_same_logits_and_comes_back(
    twin, peft_model, adapter, tmp_path
):
    ours = scaled(adapter, RULES)
    save_dora(tmp_path / "a", ours, base_model="tiny", provenance={"seed": 1})
    loaded = PeftModel.from_pretrained(twin.theirs(), tmp_path / "a")
    np.testing.assert_allclose(torch_logits(loaded), torch_logits(peft_model), atol=TORCH)
    assert is_dora(tmp_path / "a")
    back = load_dora(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, back, ours)


def test_pefts_own_file_is_read(twin, peft_model, adapter, tmp_path):
    peft_model.save_pretrained(tmp_path)
    back = load_dora(tmp_path)
    jax.tree.map(np.testing.assert_allclose, back, scaled(adapter, RULES))


def test_fresh_adapter_changes_nothing():
    config = tiny_config()
    params = tiny_params(config)
    pairs = {
        module: LoraPair(pair.lora_a[None], 0 * pair.lora_b[None])
        for module, pair in random_adapter(params).items()
    }
    fresh = jax.tree.map(lambda leaf: leaf[0], with_magnitudes(pairs, params))
    for delta in dora_deltas(fresh, params).values():
        np.testing.assert_allclose(delta.delta, 0, atol=1e-6)


def test_delta_over_a_quantised_base_is_of_what_is_computed_with():
    config = tiny_config()
    params = quantize_params(tiny_params(config), "int8")
    pairs = {
        module: LoraPair(pair.lora_a[None], pair.lora_b[None])
        for module, pair in random_adapter(params).items()
    }
    adapter = jax.tree.map(lambda leaf: leaf[0], with_magnitudes(pairs, params))
    some = batch()
    rules = (LoraRule(rank=3, alpha=3.0),)
    delta = dora_deltas(adapter, params)
    trained, merged = (
        batch_log_probs(config, params, update, some, rules=rules) for update in (adapter, delta)
    )
    np.testing.assert_allclose(trained, merged, rtol=1e-4)


def test_dora_is_refused_where_no_base_is_known(adapter, tmp_path):
    save_dora(tmp_path / "a", adapter, base_model="tiny", provenance={})
    with pytest.raises(UserError, match="DoRA also rescales every column"):
        load_adapter(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(next(k for k in t if "magnitude" in k)), "numbers for each of 2 layers"),
        (lambda t: t.update({k: t[k][:-1] for k in t if "magnitude" in k}), "needs a lora_magn"),
        (lambda t: t.update({k: t[k] * np.nan for k in t if "magnitude" in k}), "NaN"),
    ],
)
def test_damaged_magnitudes_are_named(adapter, tmp_path, change, message):
    save_dora(tmp_path / "a", adapter, base_model="tiny", provenance={})
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "a" / "adapter_model.safetensors")
    with pytest.raises(UserError, match=message):
        load_dora(tmp_path / "a")
