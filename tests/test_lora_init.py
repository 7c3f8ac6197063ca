"""PiSSA and OLoRA: starts, residuals and conversion against PEFT's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from lorafuse_jax.adapted import forward
from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats import load_peft
from lorafuse_jax.lora import LoraRule, scaled
from lorafuse_jax.lora_init import relative_to_original, split_base
from lorafuse_jax.models.quantized import quantize_params
from lorafuse_jax.types import LoraPair, UserError
from tests.tiny import tiny_config, tiny_params
from tests.torch_twin import (
    MODULES,
    PATTERN,
    TARGETS,
    make_twin,
    stacked,
    tokens,
    torch_logits,
    torch_module,
)

RULES = (LoraRule(targets=PATTERN, rank=3, alpha=6.0),)
TORCH = 1e-4
INITS = ("pissa", "olora")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("twin") / "model")


def peft_start(twin, init):
    config = LoraConfig(init_lora_weights=init, r=3, lora_alpha=6, target_modules=list(TARGETS))
    return get_peft_model(twin.theirs(), config)


def pairs_of(model):
    return {
        module: LoraPair(
            stacked(model, module, lambda own: own.lora_A["default"].weight.T),
            stacked(model, module, lambda own: own.lora_B["default"].weight.T),
        )
        for module in MODULES
    }


@pytest.mark.parametrize("init", INITS)
def test_start_and_residual_equal_pefts(twin, init):
    """The factors themselves only up to signs, which an SVD or a QR may choose."""
    residual, start = split_base(twin.ours.params, RULES, init)
    theirs = peft_start(twin, init)
    for module, pair in pairs_of(theirs).items():
        np.testing.assert_allclose(
            start[module].lora_a @ start[module].lora_b, pair.lora_a @ pair.lora_b, atol=1e-5
        )
        np.testing.assert_allclose(np.abs(start[module].lora_b), np.abs(pair.lora_b), atol=1e-5)
        _, group, name = module.split("/")
        kernel = stacked(theirs, module, lambda own: own.base_layer.weight.T)
        np.testing.assert_allclose(residual["layers"][group][name]["kernel"], kernel, atol=1e-5)


@pytest.mark.parametrize("init", INITS)
def test_start_on_the_residual_is_the_original_model(twin, init):
    residual, start = split_base(twin.ours.params, RULES, init)
    whole = forward(twin.ours, residual, scaled(start, RULES), tokens()[None])
    original = forward(twin.ours, twin.ours.params, None, tokens()[None])
    np.testing.assert_allclose(whole, original, atol=TORCH)
    alone = forward(twin.ours, residual, None, tokens()[None])
    assert np.abs(alone - original).max() > 1


@pytest.mark.parametrize("init", INITS)
def test_conversion_equals_pefts_and_keeps_the_trained_logits(twin, init, tmp_path):
    model = peft_start(twin, init)
    start = pairs_of(model)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    torch.manual_seed(3)
    with torch.no_grad():
        for module in MODULES:
            for layer in (0, 1):
                own = torch_module(model, module, layer)
                for half in (own.lora_A, own.lora_B):
                    half["default"].weight.add_(0.1 * torch.randn_like(half["default"].weight))
    trained_logits = torch_logits(model)
    trained = pairs_of(model)
    model.peft_config["default"].init_lora_weights = init
    model.save_pretrained(
        tmp_path / "end", path_initial_model_for_weight_conversion=tmp_path / "start"
    )
    theirs = to_delta(load_peft(tmp_path / "end"))
    ours = relative_to_original(scaled(trained, RULES), scaled(start, RULES))
    for module, delta in to_delta(ours).items():
        assert ours[module].lora_a.shape[-1] == 6
        np.testing.assert_allclose(delta.delta, theirs[module].delta, atol=1e-6)
    logits = forward(twin.ours, twin.ours.params, ours, tokens()[None])
    np.testing.assert_allclose(logits, trained_logits, atol=TORCH)


@pytest.mark.parametrize("init", INITS)
def test_start_against_numpy(init):
    params = tiny_params(tiny_config())
    rules = (LoraRule(rank=2, alpha=6.0, targets=r".*/up_proj"),)
    _, start = split_base(params, rules, init)
    pair = start["layers/mlp/up_proj"]
    for layer in (0, 1):
        weight = np.asarray(params["layers"]["mlp"]["up_proj"]["kernel"][layer], np.float64).T
        if init == "pissa":
            left, values, right = np.linalg.svd(weight, full_matrices=False)
            part = (left[:, :2] * values[:2]) @ right[:2] / 3.0
        else:
            orthonormal, upper = np.linalg.qr(weight)
            part = orthonormal[:, :2] @ upper[:2]
        np.testing.assert_allclose((pair.lora_a[layer] @ pair.lora_b[layer]).T, part, atol=1e-5)


def test_quantised_base_and_too_large_ranks_are_refused():
    params = tiny_params(tiny_config())
    with pytest.raises(UserError, match="leave out --quantization or --init"):
        split_base(quantize_params(params, "int8"), RULES, "pissa")
    with pytest.raises(UserError, match="cannot take 17 directions"):
        split_base(params, (LoraRule(rank=17),), "olora")


def test_other_modules_of_the_residual_are_the_originals():
    params = tiny_params(tiny_config())
    residual, _ = split_base(params, RULES, "pissa")
    assert residual["embed_tokens"]["embedding"] is params["embed_tokens"]["embedding"]
    gate = lambda p: p["layers"]["mlp"]["gate_proj"]["kernel"]  # noqa: E731
    assert gate(residual) is gate(params)
    assert not jnp.array_equal(
        residual["layers"]["mlp"]["down_proj"]["kernel"],
        params["layers"]["mlp"]["down_proj"]["kernel"],
    )
    assert jax.tree.structure(residual) == jax.tree.structure(params)
