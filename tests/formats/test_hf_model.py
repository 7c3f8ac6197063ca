"""Merged checkpoints, loaded by transformers and compared with PEFT."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from lorafuse_jax import cli
from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats import hf_model, load_peft, read_peft_config
from lorafuse_jax.formats.dense import save_dense
from lorafuse_jax.formats.layers import hf_name
from lorafuse_jax.types import DenseDelta, UserError
from lorafuse_jax.workflow.export import export
from tests.formats.families import TARGETS, build, different, load, logits, train

families = pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mistral"])


def write_adapter(family, folder, **settings):
    if family == "qwen2":  # its output head is not tied here
        settings = {"target_modules": TARGETS["qwen2"]} | settings
    train(family, lora_alpha=6, **settings).save_pretrained(folder)
    return folder


def write_base(family, folder, dtype=torch.float32, **how):
    model = build(family).to(dtype)
    if family == "qwen2":
        model.config.tie_word_embeddings = False
    model.save_pretrained(folder, **how)
    return folder


def merged(folder):
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())


def single(model):
    with torch.no_grad():
        return model(torch.arange(12)[None]).logits.float().numpy()


def torch_weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


@families
@pytest.mark.parametrize("kind", ["low-rank", "dense"])
def test_merged_model_computes_what_peft_does(family, kind, tmp_path):
    adapter = write_adapter(family, tmp_path / "adapter")
    expected = logits(load(family, adapter))
    if kind == "dense":
        carried = {"carried": read_peft_config(adapter).carried}
        whole = to_delta(load_peft(adapter))
        save_dense(tmp_path / "dense", whole, base_model="", provenance=carried)
        adapter = tmp_path / "dense"
    base = write_base(family, tmp_path / "base")
    export(base, adapter, tmp_path / "out")
    found = merged(tmp_path / "out")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert different(found, merged(base))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_deltas_are_added_in_single_precision_and_rounded_once(family, tmp_path):
    """By hand, for square matrices too, kept [O, I] by Llama and [I, O] by GPT-2."""
    adapter = write_adapter(family, tmp_path / "adapter")
    base = write_base(family, tmp_path / "base", torch.bfloat16)
    export(base, adapter, tmp_path / "out")
    before, after = (torch_weights(folder) for folder in (base, tmp_path / "out"))
    square = {"llama": "layers/self_attn/q_proj", "gpt2": "transformer/h/*/attn/c_proj"}[family]
    pair = load_peft(adapter)[square]
    for layer in range(3):
        name = f"{hf_name(square, layer)}.weight"
        delta = np.asarray(pair[0][layer], np.float32) @ np.asarray(pair[1][layer], np.float32)
        oriented = torch.tensor(delta if family == "gpt2" else delta.T.copy())
        wanted = (before[name].float() + oriented).to(torch.bfloat16)
        assert torch.equal(after[name], wanted)
    theirs = load(family, adapter).merge_and_unload().to(torch.bfloat16)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
    # theirs was rounded after the sum as well, but added to weights that were not
    np.testing.assert_allclose(single(ours), single(theirs), atol=0.1)


def test_large_tensors_are_added_to_block_by_block(tmp_path, monkeypatch):
    adapter = write_adapter("llama", tmp_path / "adapter")
    base = write_base("llama", tmp_path / "base")
    export(base, adapter, tmp_path / "whole")
    monkeypatch.setattr(hf_model, "ENTRIES_AT_ONCE", 3 * 24)
    export(base, adapter, tmp_path / "blocks")
    whole, blocks = (tmp_path / f / "model.safetensors" for f in ("whole", "blocks"))
    assert whole.read_bytes() == blocks.read_bytes()


def test_only_shard_keeps_its_index(tmp_path):
    """Without it transformers finds no weights."""
    adapter = write_adapter("llama", tmp_path / "adapter")
    base = write_base("llama", tmp_path / "base")
    shard = base / "model-00001-of-00001.safetensors"
    (base / "model.safetensors").rename(shard)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(shard), shard.name)}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    export(base, adapter, tmp_path / "out")
    assert different(merged(tmp_path / "out"), merged(base))


def test_shards_stay_as_they_are_and_all_else_is_copied(tmp_path):
    adapter = write_adapter("llama", tmp_path / "adapter")
    base = write_base("llama", tmp_path / "base", max_shard_size="6KB")
    (base / "tokenizer.json").write_text("{}")
    (base / "pytorch_model.bin").write_bytes(b"a copy of the weights")
    (base / "pytorch_model.bin.index.json").write_text("of copies of the weights")
    shards = {file.name for file in base.glob("*.safetensors")}
    assert len(shards) > 2
    export(base, adapter, tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    copies = {"pytorch_model.bin", "pytorch_model.bin.index.json"}
    assert names == {f.name for f in base.iterdir()} - copies | {"lorafuse.json"}
    np.testing.assert_allclose(merged(tmp_path / "out"), logits(load("llama", adapter)), atol=1e-4)


def test_tensors_that_are_not_adapted_keep_their_bytes(tmp_path):
    adapter = write_adapter("mistral", tmp_path / "adapter")
    base = write_base("mistral", tmp_path / "base")
    export(base, adapter, tmp_path / "out")
    before, after = (load_file(f / "model.safetensors") for f in (base, tmp_path / "out"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed == {
        f"model.layers.{layer}.{name}.weight"
        for layer in (0, 2)
        for name in ("self_attn.v_proj", "mlp.gate_proj")
    }
    told = json.loads((tmp_path / "out" / "lorafuse.json").read_text())
    assert told["adapter"] == "adapter"


def change_tensors(base, change):
    path = base / "model.safetensors"
    save_file(change(load_file(path)), path)


def rename_tensors(base, change):
    change_tensors(base, lambda tensors: {change(name): t for name, t in tensors.items()})


def test_checkpoint_without_its_first_prefix_is_matched(tmp_path):
    """As gpt2 is on the hub."""
    adapter = write_adapter("gpt2", tmp_path / "adapter")
    base = write_base("gpt2", tmp_path / "base")
    rename_tensors(base, lambda name: name.removeprefix("transformer."))
    export(base, adapter, tmp_path / "out")
    np.testing.assert_allclose(merged(tmp_path / "out"), logits(load("gpt2", adapter)), atol=1e-4)


def no_safetensors(base):
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def tied(base):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))


def no_up_proj(base):
    rename_tensors(base, lambda name: name.replace("up_proj", "upproj"))


def quantised(base):
    change_tensors(base, lambda tensors: {n: t.astype(np.int8) for n, t in tensors.items()})


def two_stacks(base):
    def twice(tensors):
        parts = {n: t for n, t in tensors.items() if ".layers.0." in n}
        rest = {n: t for n, t in tensors.items() if n not in parts}
        return rest | {f"{part}.{n}": t for n, t in parts.items() for part in ("first", "second")}

    change_tensors(base, twice)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_safetensors, r"pytorch_model.bin is a pickle and is never loaded: save the model"),
        (tied, r"config.json ties the output head to the embedding, but lm_head.weight differs"),
        (quantised, r"is stored as I8: nothing can be added to quantised weights"),
        (two_stacks, r"up_proj.weight could be first.model.* or second.model"),
        (no_up_proj, r"has no tensor model.layers.0.mlp.up_proj.weight; near: .*upproj"),
        (lambda base: (base / "config.json").unlink(), r"config.json does not exist"),
    ],
)
def test_base_that_does_not_do_is_refused_and_nothing_is_written(spoil, message, tmp_path):
    adapter = write_adapter("qwen2", tmp_path / "adapter")
    base = write_base("qwen2", tmp_path / "base")
    spoil(base)
    with pytest.raises(UserError, match=message):
        export(base, adapter, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "base"}


def test_adapter_of_another_model_is_refused(tmp_path):
    adapter = write_adapter("gpt2", tmp_path / "adapter")
    with pytest.raises(UserError, match=r"says fan_in_fan_out, but .* is a llama model"):
        export(write_base("llama", tmp_path / "base"), adapter, tmp_path / "out")


def dense(folder, adapter):
    save_dense(folder, adapter, base_model="", provenance={})
    return folder


def test_two_modules_for_one_tensor_are_refused(tmp_path):
    ones = DenseDelta(jnp.ones((3, 16, 16)))
    both = {"layers/self_attn/q_proj": ones, "draft/model/layers/*/self_attn/q_proj": ones}
    with pytest.raises(UserError, match=r"would both be added to model.layers.0.self_attn.q_proj"):
        export(write_base("llama", tmp_path / "base"), dense(tmp_path / "a", both), tmp_path / "b")


def test_layers_that_are_zero_need_not_be_in_the_base(tmp_path):
    """As dense adapters have them for layers that are of another kind."""
    deltas = DenseDelta(jnp.zeros((4, 16, 16)).at[1, 0, 2].set(1))
    base = write_base("llama", tmp_path / "base")
    export(base, dense(tmp_path / "a", {"layers/self_attn/q_proj": deltas}), tmp_path / "out")
    before, after = (load_file(f / "model.safetensors") for f in (base, tmp_path / "out"))
    added = {
        name: after[name] - before[name] for name in before if (after[name] != before[name]).any()
    }
    assert added.keys() == {"model.layers.1.self_attn.q_proj.weight"}
    (change,) = added.values()
    np.testing.assert_allclose(change[2, 0], 1, rtol=1e-6)
    assert np.count_nonzero(change) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "changes nothing: all of its updates are zero"),
        (np.nan, "q_proj.weight is not finite with .* added to it"),
        (1e5, "the sum is too large for the base's float16"),
    ],
)
def test_dense_adapter_that_cannot_be_added_is_refused(value, message, tmp_path):
    deltas = {"layers/self_attn/q_proj": DenseDelta(jnp.full((3, 16, 16), value))}
    base = write_base("llama", tmp_path / "base", torch.float16)
    with pytest.raises(UserError, match=message):
        export(base, dense(tmp_path / "adapter", deltas), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "base"}


def test_output_that_is_there_is_refused_first(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(UserError, match="is there already"):
        export(tmp_path / "nowhere", tmp_path / "nothing", tmp_path / "out")


def test_export_from_the_command_line(tmp_path, monkeypatch, capsys):
    adapter = write_adapter("llama", tmp_path / "adapter")
    base = write_base("llama", tmp_path / "base")
    words = ["--base", base, "--adapter", adapter, "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["lorafuse", "export", *map(str, words)])
    cli.main()
    assert "6 of 30 tensors changed" in capsys.readouterr().out
    assert different(merged(tmp_path / "out"), merged(base))
