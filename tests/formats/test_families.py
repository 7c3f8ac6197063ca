"""Adapters that PEFT made, of several families: there and back."""

import json
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaModel

from lorafuse_jax.formats import load_peft, read_peft_config, save_peft
from lorafuse_jax.formats.targets import selects
from lorafuse_jax.types import LoraPair
from tests.formats.families import SHAPE, TARGETS, build, different, load, logits, train

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
KEY = PREFIX + "model.layers.1.self_attn.q_proj.lora_B.weight"
DOWN = "layers/mlp/down_proj"
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


@pytest.mark.parametrize(
    ("dtype", "alpha", "kept"),
    [
        (torch.bfloat16, 8, True),
        (torch.float16, 8, True),
        (torch.bfloat16, 10, False),
        (torch.float16, 10, False),
        (torch.bfloat16, 2**-18, True),
        (torch.float16, 2**-18, False),
        (torch.float16, 2**20, False),
    ],
)
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
    np.testing.assert_allclose(ours.T, alpha / 4 * b @ a, rtol=1e-6, atol=1e-7 * alpha)


def test_smallest_numbers_come_back(tmp_path):
    model = train("llama")
    for name, parameter in model.named_parameters():
        if "layers.1" in name and "lora_" in name:
            parameter.data *= 1e-39  # zero, to XLA
    theirs, ours = there_and_back(model, tmp_path)
    tensors = load_file(theirs / WEIGHTS)
    assert 0 < np.abs(tensors[KEY]).max() < np.finfo(np.float32).tiny
    np.testing.assert_equal(load_file(ours / WEIGHTS), tensors)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers_to_transform": [1]},
        {"layers_to_transform": 0},
        {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"rank_pattern": {"layers.2.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 8}},
        {"r": 2, "rank_pattern": {"layers.1.self_attn.q_proj": 4}},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*layers\.0\..*"},
    ],
    ids=str,
)
def test_partial_adapters_come_back_as_they_were(settings, tmp_path):
    theirs, ours = there_and_back(train("llama", **settings), tmp_path)
    np.testing.assert_equal(load_file(ours / WEIGHTS).keys(), load_file(theirs / WEIGHTS).keys())
    assert adapted(load("llama", ours)) == names_in(ours)
    np.testing.assert_array_equal(logits(load("llama", ours)), logits(load("llama", theirs)))


def adapted(model):
    """Names of the modules that PEFT made an adapter for."""
    ending = ".lora_A.default"
    modules = (name for name, _ in model.base_model.model.named_modules())
    return {name.removesuffix(ending) for name in modules if name.endswith(ending)}


def names_in(folder):
    return {name.split(".lora_")[0].removeprefix(PREFIX) for name in load_file(folder / WEIGHTS)}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("mistral", {}),
        ("llama", {"layers_to_transform": [0, 1]}),
        ("gpt2", {"target_modules": ["attn.c_proj"]}),
        ("qwen2", {"target_modules": ["lm_head"]}),
        ("llama", {}),
    ],
    ids=str,
)
def test_without_what_was_carried_exactly_what_is_in_the_file_is_adapted(
    family, settings, tmp_path
):
    train(family, **settings).save_pretrained(tmp_path / "theirs")
    save_peft(tmp_path / "ours", load_peft(tmp_path / "theirs"), base_model="", provenance={})
    theirs, ours = (load(family, tmp_path / name) for name in ("theirs", "ours"))
    assert adapted(ours) == adapted(theirs) == names_in(tmp_path / "ours")
    np.testing.assert_array_equal(logits(ours), logits(theirs))


def zero_layer(adapter):
    return {m: LoraPair(p.lora_a.at[1].set(0), p.lora_b.at[1].set(0)) for m, p in adapter.items()}


def first_module(adapter):
    return dict([next(iter(adapter.items()))])


@pytest.mark.parametrize("change", [zero_layer, first_module])
@pytest.mark.parametrize(
    "targets", [["q_proj", "down_proj"], r".*(q_proj|down_proj)", "all-linear"], ids=str
)
def test_carried_targets_that_no_longer_hold_are_replaced(change, targets, tmp_path):
    train("llama").save_pretrained(tmp_path / "theirs")
    adapter = change(load_peft(tmp_path / "theirs"))
    carried = read_peft_config(tmp_path / "theirs").carried | {"target_modules": targets}
    about = {"base_model": "", "provenance": {}}
    if change is first_module and isinstance(targets, str):  # what else it selects is not known
        adapter |= {"layers/self_attn/q_proj": LoraPair(*(0 * f for f in adapter[DOWN]))}
    save_peft(tmp_path / "ours", adapter, carried=carried, **about)
    assert adapted(load("llama", tmp_path / "ours")) == names_in(tmp_path / "ours")


NAMES = (
    "lm_head",
    "q_proj",
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.self_attn.q_proj",
    "model.layers.1.mlp.experts.0.w1",
    "layers.1.q_proj",
    "vision.blocks.1.attn.q_proj",
)


@pytest.mark.parametrize(
    "where",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["proj", "lm_head"]},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "w1"]},
        {"target_modules": r".*\.1\..*q_proj"},
        {"target_modules": ["q_proj", "w1"], "exclude_modules": ["self_attn.q_proj"]},
        {"target_modules": ["q_proj", "w1"], "exclude_modules": r"vision.*"},
        {"target_modules": ["q_proj", "w1"], "layers_to_transform": [1, 11]},
        {"target_modules": ["q_proj", "w1"], "layers_to_transform": 0},
        {
            "target_modules": ["q_proj", "w1"],
            "layers_to_transform": [1],
            "layers_pattern": ["h", "layers"],
        },
        {
            "target_modules": ["model.layers.0.self_attn.q_proj", "w1"],
            "layers_to_transform": [1],
            "layers_pattern": "blocks",
        },
    ],
    ids=str,
)
def test_modules_are_selected_as_peft_selects_them(where):
    config = LoraConfig(**where)
    theirs = {name: check_target_module_exists(config, name) for name in NAMES}
    ours = {name: selects(where, name) for name in NAMES}
    assert ours == {k: bool(v) and not isinstance(v, _ExcludedModule) for k, v in theirs.items()}
    assert len(set(ours.values())) == 2


def test_model_without_head_or_task_comes_back(tmp_path):
    def build_body():
        torch.manual_seed(0)
        return LlamaModel(LlamaConfig(**SHAPE)).eval()

    def output(folder):
        model = PeftModel.from_pretrained(build_body(), folder)
        return model(torch.arange(12)[None]).last_hidden_state.detach().numpy()

    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    theirs, ours = there_and_back(get_peft_model(build_body(), config), tmp_path)
    assert load_peft(ours).keys() == {"layers/*/self_attn/q_proj"}
    np.testing.assert_array_equal(output(ours), output(theirs))
    assert different(output(ours), build_body()(torch.arange(12)[None])[0].detach().numpy())
    told = json.loads((ours / CONFIG).read_text())
    assert told["task_type"] is None
    assert told["auto_mapping"]["base_model_class"] == "LlamaModel"


class Uneven(torch.nn.Module):
    """Layers of different widths, as in a U-Net."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down_blocks = torch.nn.ModuleList(
            torch.nn.ModuleDict({"to_q": torch.nn.Linear(n, n + 2), "to_k": torch.nn.Linear(4, 4)})
            for n in (4, 6)
        )

    def forward(self, x):
        for block in self.down_blocks:
            x = block["to_q"](x)
        return x + block["to_k"](x[..., :4]).sum()


def test_layers_of_different_widths_are_modules_of_their_own(tmp_path):
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    theirs, ours = there_and_back(get_peft_model(Uneven(), config), tmp_path)
    assert load_peft(theirs).keys() == {
        "down_blocks/*/to_k",
        "down_blocks/0/to_q",
        "down_blocks/1/to_q",
    }
    np.testing.assert_equal(load_file(ours / WEIGHTS), load_file(theirs / WEIGHTS))
    outputs = [
        PeftModel.from_pretrained(Uneven(), folder)(torch.ones(1, 4)).detach().numpy()
        for folder in (ours, theirs)
    ]
    np.testing.assert_array_equal(*outputs)
