"""Adapters that PEFT made, of several families: there and back."""

import json
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lorafuse_jax.formats import load_peft, read_peft_config, save_peft
from lorafuse_jax.formats.layers import hf_name, hf_pattern, parse_hf_name
from lorafuse_jax.formats.tensors import write_index
from lorafuse_jax.types import LoraPair, UserError
from tests.formats.families import TARGETS, build, different, load, logits, train

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
families = pytest.mark.parametrize("family", TARGETS)


def there_and_back(model, folder):
    """PEFT's folder, and ours of what we read from it."""
    model.save_pretrained(folder / "theirs")
    config = read_peft_config(folder / "theirs")
    adapter = load_peft(folder / "theirs")
    save_peft(
        folder / "ours",
        adapter,
        base_model=config.base_model,
        provenance={"from": "theirs"},
        carried=config.carried,
    )
    return folder / "theirs", folder / "ours"


@families
def test_peft_adapter_comes_back_bit_for_bit(family, tmp_path):
    theirs, ours = there_and_back(train(family), tmp_path)
    wanted = {k: v for k, v in load_file(theirs / WEIGHTS).items() if "base_layer" not in k}
    np.testing.assert_equal(load_file(ours / WEIGHTS), wanted)
    configs = [json.loads((folder / CONFIG).read_text()) for folder in (ours, theirs)]
    for key in ("r", "lora_alpha", "fan_in_fan_out", "task_type", "base_model_name_or_path"):
        assert configs[0][key] == configs[1][key]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(logits(load(family, ours)), logits(load(family, theirs)))
    assert not [w for w in warned if "Unexpected" in str(w.message) or "missing" in str(w.message)]
    assert different(logits(load(family, ours)), logits(build(family)))


@families
@pytest.mark.parametrize(
    ("settings", "exact"),
    [
        ({"r": 4, "lora_alpha": 16}, True),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, True),
        ({"r": 4, "lora_alpha": 10}, False),
        ({"r": 8, "lora_alpha": 8, "use_rslora": True}, False),
    ],
    ids=["power of two", "rslora power of two", "alpha 10", "rslora"],
)
def test_scale_is_folded_exactly_or_rounded_once(family, settings, exact, tmp_path):
    theirs, ours = there_and_back(train(family, **settings), tmp_path)
    first, second = logits(load(family, ours)), logits(load(family, theirs))
    if exact:
        np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert different(first, logits(build(family)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("alpha", "kept"), [(8, True), (10, False)])
def test_half_precision_loses_no_digits(dtype, alpha, kept, tmp_path):
    model = train("llama", lora_alpha=alpha).to(dtype)
    model.save_pretrained(tmp_path / "theirs")
    adapter = load_peft(tmp_path / "theirs")
    layer = model.base_model.model.model.layers[1].self_attn.q_proj
    a, b = (
        half["default"].weight.detach().double().numpy() for half in (layer.lora_A, layer.lora_B)
    )
    pair = adapter["layers/self_attn/q_proj"]
    assert isinstance(pair, LoraPair)
    assert (pair.lora_b.dtype != jnp.float32) == kept
    ours = np.asarray(pair.lora_a[1], np.float64) @ np.asarray(pair.lora_b[1], np.float64)
    np.testing.assert_allclose(ours.T, alpha / 4 * b @ a, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers_to_transform": [1]},
        {"rank_pattern": {"layers.2.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 8}},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*layers\.0\..*"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_partial_adapters_come_back_as_they_were(settings, tmp_path):
    theirs, ours = there_and_back(train("llama", **settings), tmp_path)
    names = [sorted(load_file(folder / WEIGHTS)) for folder in (ours, theirs)]
    assert names[0] == names[1]
    np.testing.assert_array_equal(logits(load("llama", ours)), logits(load("llama", theirs)))


def test_partial_adapter_whose_targets_are_not_carried_names_them_in_full(tmp_path):
    train("mistral").save_pretrained(tmp_path / "theirs")
    adapter = load_peft(tmp_path / "theirs")
    save_peft(tmp_path / "ours", adapter, base_model="", provenance={})
    named = json.loads((tmp_path / "ours" / CONFIG).read_text())["target_modules"]
    assert len(named) == 4 and "model.layers.2.mlp.gate_proj" in named
    ours, theirs = (logits(load("mistral", tmp_path / name)) for name in ("ours", "theirs"))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("rank", "served"), [(4, 8), (8, 8), (24, 32), (257, 320)])
def test_padding_writes_a_rank_that_can_be_served(rank, served, tmp_path):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    adapter: dict = {
        "layers/self_attn/q_proj": LoraPair(draw(3, 16, rank), draw(3, rank, 16)),
        "layers/mlp/down_proj": LoraPair(draw(3, 24, 2), draw(3, 2, 16)),
    }
    save_peft(tmp_path / "a", adapter, base_model="", provenance={}, pad_rank=True)
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (served, served, {})
    shapes = {min(tensor.shape) for tensor in load_file(tmp_path / "a" / WEIGHTS).values()}
    assert all(served in t.shape for t in load_file(tmp_path / "a" / WEIGHTS).values()), shapes
    save_peft(tmp_path / "b", adapter, base_model="", provenance={})
    padded, plain = (logits(load("llama", tmp_path / name)) for name in "ab")
    np.testing.assert_allclose(padded, plain, atol=1e-4)


def test_padding_beyond_what_can_be_served_says_so(tmp_path):
    pair = LoraPair(jnp.ones((1, 600, 513)), jnp.ones((1, 513, 600)))
    with pytest.raises(UserError, match="rank 513 is above 512"):
        save_peft(tmp_path / "a", {"layers/m": pair}, base_model="", provenance={}, pad_rank=True)


def shard(folder):
    """The weights in two files with an index, as large models have them."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    files = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"adapter_model-0000{number + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        files |= dict.fromkeys(part, file)
    write_index(folder / f"{WEIGHTS}.index.json", files, 0)
    return folder


def test_sharded_weights_are_read_whole(tmp_path):
    train("gpt2").save_pretrained(tmp_path)
    before = load_peft(tmp_path)
    after = load_peft(shard(tmp_path))
    assert (
        before.keys()
        == after.keys()
        == {
            "transformer/h/*/attn/c_attn",
            "transformer/h/*/attn/c_proj",
            "transformer/h/*/mlp/c_proj",
        }
    )
    for module, pair in before.items():
        for ours, theirs in zip(pair, after[module], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_missing_shard_is_named(tmp_path):
    train("llama").save_pretrained(tmp_path)
    shard(tmp_path)
    (tmp_path / "adapter_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"00002-of-00002.safetensors is missing; .*index"):
        load_peft(tmp_path)


@pytest.mark.parametrize(
    ("name", "module", "layer"),
    [
        ("model.layers.3.self_attn.q_proj", "layers/self_attn/q_proj", 3),
        ("transformer.h.11.attn.c_attn", "transformer/h/*/attn/c_attn", 11),
        ("model.layers.0.mlp.experts.7.w1", "layers/mlp/experts/7/w1", 0),
        ("lm_head", "lm_head", 0),
        ("vision.blocks.2.fc-1", "vision/blocks/*/fc-1", 2),
    ],
)
def test_module_names_of_other_models_have_paths(name, module, layer):
    assert parse_hf_name(name) == (module, layer)
    assert hf_name(module, layer) == name


parts = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


@given(st.lists(parts | st.integers(0, 99).map(str), max_size=6).map(lambda p: [*p, "end"]))
def test_module_names_come_back(pieces):
    name = ".".join(pieces)
    where = parse_hf_name(name)
    assert where is not None
    assert hf_name(*where) == name
    assert re.fullmatch(hf_pattern(where.module), name)


@pytest.mark.parametrize("name", ["", ".", "7", "a..b", "a.b.", "a b", "a/b"])
def test_text_that_is_no_name_has_no_path(name):
    assert parse_hf_name(name) is None
