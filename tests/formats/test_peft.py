"""PEFT folders: there and back, against PEFT itself, and every refusal."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file

from lorafuse_jax.formats import (
    load_adapter,
    load_peft,
    read_peft_config,
    read_provenance,
    save_adapter,
    save_peft,
)
from lorafuse_jax.types import UserError
from tests.formats.adapters import (
    INFO,
    LAYERS,
    SHAPES,
    logits,
    merge_by_hand,
    random_dense,
    random_pairs,
    tiny_llama,
)

TORCH = 2e-5  # torch and NumPy add up in different orders
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KEY = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.fixture
def folder(tmp_path):
    """A good PEFT folder to spoil."""
    save_peft(tmp_path / "good", random_pairs(), **INFO)
    return tmp_path / "good"


def change_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def change_tensors(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("ranks", [(3, 3), (2, 5)])
def test_adapter_comes_back_bit_for_bit(dtype, ranks, tmp_path):
    adapter = random_pairs(ranks=ranks, dtype=dtype)
    save_adapter(tmp_path / "a", adapter, **INFO)
    loaded = load_adapter(tmp_path / "a")
    assert loaded.keys() == adapter.keys()
    for module, pair in adapter.items():
        for ours, theirs in zip(pair, loaded[module], strict=True):
            assert theirs.dtype == dtype
            np.testing.assert_array_equal(ours, theirs)


def test_folder_says_what_it_is(folder):
    config = read_peft_config(folder)
    assert (config.base_model, config.rank, config.alpha) == ("tiny/llama", 3, 3)
    assert config.carried["target_modules"] == [
        f"model.layers.{layer}.{module}"
        for layer in (0, 1)
        for module in ("mlp.down_proj", "self_attn.q_proj")
    ]
    assert read_provenance(folder) == config.provenance == INFO["provenance"]
    assert {file.name for file in folder.iterdir()} == {CONFIG, WEIGHTS}
    assert [path.name for path in folder.parent.iterdir()] == ["good"]


def test_same_adapter_gives_the_same_bytes(folder, tmp_path):
    save_peft(tmp_path / "again", random_pairs(), **INFO)
    for name in (CONFIG, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("ranks", [(3, 3), (2, 5)])
def test_peft_loads_our_folder_and_computes_what_merging_does(ranks, tmp_path):
    adapter = random_pairs(ranks=ranks)
    save_peft(tmp_path / "a", adapter, **INFO)
    theirs = logits(PeftModel.from_pretrained(tiny_llama(), tmp_path / "a"))
    np.testing.assert_allclose(theirs, logits(merge_by_hand(tiny_llama(), adapter)), atol=TORCH)
    assert np.abs(theirs - logits(tiny_llama())).max() > 100 * TORCH


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 10},
        {"r": 4, "lora_alpha": 10, "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 6,
            "rank_pattern": {"layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"down_proj": 1},
        },
        {"r": 2, "lora_alpha": 4, "rank_pattern": {"down_proj": 5}},
    ],
    ids=["alpha", "rslora", "patterns", "rank of a module"],
)
def test_what_peft_saves_is_loaded_with_its_scale(settings, tmp_path):
    targets = ["q_proj", "down_proj"]
    model = get_peft_model(tiny_llama(), LoraConfig(target_modules=targets, **settings))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "theirs")
    adapter = load_peft(tmp_path / "theirs")
    assert adapter.keys() == SHAPES.keys()
    ours = logits(merge_by_hand(tiny_llama(), adapter))
    np.testing.assert_allclose(ours, logits(model.eval()), atol=TORCH)
    assert np.abs(ours - logits(tiny_llama())).max() > 100 * TORCH


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only LORA"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"lora_bias": True}, "lora_bias = True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\]"),
        ({"new_trick": 3}, "the key 'new_trick' = 3 is not known"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4.*changed the base weights"),
        (
            {"r": 4},
            r"down_proj has rank 3 in lora_A and 3 in lora_B, .*says 4",
        ),
        ({"r": "many"}, "expected r, lora_alpha"),
        ({"r": 0}, "r = 0 is no rank"),
        ({"lora_alpha": float("nan")}, "lora_alpha = nan"),
        ({"rank_pattern": {"q_proj": 2.5}}, "rank_pattern of 'q_proj' = 2.5 is no rank"),
        ({"alpha_pattern": {"(": 2}}, "missing ., unterminated"),
        ({"target_parameters": ["mlp.experts"]}, "parameters that are not linear layers"),
        ({"alora_invocation_tokens": [3]}, "aLoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"arrow_config": {"top_k": 2}}, "Arrow"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_config_beyond_plain_lora_is_refused_by_name(changes, message, folder):
    change_config(folder, **changes)
    with pytest.raises(UserError, match=message):
        load_peft(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop(KEY.format(1, "B")),
            "1.self_attn.q_proj.lora_B.weight is mis",
        ),
        (
            lambda t: t.update({"base_model.model.lm_head.weight": np.ones((2, 2))}),
            "'base_model.model.lm_head.weight'; it is a whole weight.* vocabulary was resized",
        ),
        (lambda t: t.update({KEY.format(0, "magnitude"): np.ones(2)}), "lora_magnitude"),
        (
            lambda t: t.update(
                {"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 3), "f4")}
            ),
            "model.embed_tokens.lora_embedding_B is missing",
        ),
        (
            lambda t: t.update({KEY.format(1, "A"): np.ones((3, 16), "i1")}),
            "lora_A.weight is stored as I8; expected F32, F16, BF16, F64",
        ),
        (lambda t: t.update({KEY.format(1, "B"): np.ones(3, "f4")}), r"no matrix but \[3\]"),
        (lambda t: t[KEY.format(1, "B")].fill(np.nan), r"q_proj.lora_B.weight has NaN or inf"),
        (lambda t: t[KEY.format(0, "A")].fill(np.inf), r"q_proj.lora_A.weight has NaN or inf"),
        (lambda t: t.clear(), "holds no tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change, message, folder):
    change_tensors(folder, change)
    with pytest.raises(UserError, match=message):
        load_peft(folder)


def test_scale_that_takes_the_numbers_beyond_float32_is_refused(folder):
    change_config(folder, lora_alpha=1e42)
    with pytest.raises(UserError, match=r"times its scale .* has NaN or infinite entries"):
        load_peft(folder)


@pytest.mark.parametrize("size", [0, 5, 100, 2000])
def test_truncated_weights_are_refused(size, folder):
    whole = (folder / WEIGHTS).read_bytes()
    assert size < len(whole)
    (folder / WEIGHTS).write_bytes(whole[:size])
    with pytest.raises(UserError, match=f"{WEIGHTS} is damaged"):
        load_peft(folder)


def test_pickled_weights_are_never_loaded(folder):
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match=r"adapter_model\.bin is a pickle and is never loaded"):
        load_peft(folder)


def test_folder_that_lacks_a_file_or_is_none_says_which(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=rf"{WEIGHTS} does not exist"):
        load_peft(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(UserError, match=rf"{CONFIG} does not exist"):
        load_adapter(folder)
    with pytest.raises(UserError, match="is not a folder"):
        load_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_damaged_config_is_refused(text, folder):
    (folder / CONFIG).write_text(text)
    with pytest.raises(UserError, match=CONFIG):
        load_peft(folder)


def test_saving_over_a_folder_with_content_raises_and_leaves_it(folder):
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(UserError, match="is there already"):
        save_peft(folder, random_pairs(seed=1), **INFO)
    assert (folder / WEIGHTS).read_bytes() == before


def test_saving_into_an_empty_folder_works(tmp_path):
    (tmp_path / "empty").mkdir()
    save_peft(tmp_path / "empty", random_pairs(), **INFO)
    assert load_peft(tmp_path / "empty").keys() == SHAPES.keys()


def test_interrupted_save_leaves_nothing_behind(tmp_path):
    circular = {}
    circular["self"] = circular
    with pytest.raises(ValueError, match="Circular"):
        save_peft(tmp_path / "a", random_pairs(), base_model="x", provenance=circular)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (random_dense(), "is dense"),
        ({}, "empty"),
        ({"a/*/b/*/c": random_pairs()["layers/self_attn/q_proj"]}, r"cannot write module 'a/\*/b"),
        ({"lm_head": random_pairs()["layers/self_attn/q_proj"]}, "'lm_head' has no layer 1"),
        (jax.tree.map(lambda leaf: leaf[None], random_pairs()), "take.stacked, member."),
    ],
    ids=["dense", "empty", "path", "layers", "stacked"],
)
def test_adapter_that_is_not_one_of_layers_is_not_saved(adapter, message, tmp_path):
    with pytest.raises(UserError, match=message):
        save_peft(tmp_path / "a", adapter, **INFO)
    assert not (tmp_path / "a").exists()


def test_layers_of_smaller_rank_are_padded(folder):
    def shrink(tensors):
        tensors[KEY.format(1, "A")] = tensors[KEY.format(1, "A")][:2].copy()
        tensors[KEY.format(1, "B")] = tensors[KEY.format(1, "B")][:, :2].copy()

    change_tensors(folder, shrink)
    change_config(
        folder,
        rank_pattern={"layers.1.self_attn.q_proj": 2},
        alpha_pattern={"layers.1.self_attn.q_proj": 2},
    )
    loaded: Any = load_peft(folder)
    again = folder.parent / "again"
    save_peft(again, loaded, **INFO)
    np.testing.assert_equal(load_file(again / WEIGHTS), load_file(folder / WEIGHTS))
    original = random_pairs()
    module = "layers/self_attn/q_proj"
    assert loaded[module].lora_a.shape == (LAYERS, 16, 3)
    np.testing.assert_array_equal(loaded[module].lora_a[0], original[module].lora_a[0])
    np.testing.assert_array_equal(loaded[module].lora_b[1, :2], original[module].lora_b[1, :2])
    np.testing.assert_array_equal(loaded[module].lora_b[1, 2:], 0)
