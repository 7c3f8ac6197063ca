"""Merged checkpoints, loaded by transformers and compared with PEFT."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from lorafuse_jax import cli
from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats import load_peft, read_peft_config
from lorafuse_jax.formats.dense import save_dense
from lorafuse_jax.types import UserError
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


def merged(folder, dtype=torch.float32):
    return logits(AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval())


@families
@pytest.mark.parametrize("kind", ["low-rank", "dense"])
def test_merged_model_computes_what_peft_does(family, kind, tmp_path):
    adapter = write_adapter(family, tmp_path / "adapter")
    expected = logits(load(family, adapter))
    if kind == "dense":
        carried = {"carried": read_peft_config(adapter).carried}
        parts = [to_delta(load_peft(adapter))]
        save_dense(tmp_path / "dense", parts, base_model="", provenance=carried)
        adapter = tmp_path / "dense"
    base = write_base(family, tmp_path / "base")
    export(base, adapter, tmp_path / "out")
    found = merged(tmp_path / "out")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert different(found, merged(base))


def test_deltas_are_added_in_single_precision_and_rounded_once(tmp_path):
    adapter = write_adapter("llama", tmp_path / "adapter")
    base = write_base("llama", tmp_path / "base", torch.bfloat16)
    export(base, adapter, tmp_path / "out")
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        for folder in (base, tmp_path / "out")
    )
    pair = load_peft(adapter)["layers/self_attn/q_proj"]
    for layer in range(3):
        name = f"model.layers.{layer}.self_attn.q_proj"
        weight = before.get_submodule(name).weight.detach().float()
        delta = np.asarray(pair[0][layer], np.float32) @ np.asarray(pair[1][layer], np.float32)
        wanted = (weight + torch.tensor(delta.T)).to(torch.bfloat16)
        assert torch.equal(after.get_submodule(name).weight, wanted)


def test_shards_stay_as_they_are_and_all_else_is_copied(tmp_path):
    adapter = write_adapter("llama", tmp_path / "adapter")
    base = write_base("llama", tmp_path / "base", max_shard_size="6KB")
    (base / "tokenizer.json").write_text("{}")
    (base / "pytorch_model.bin").write_bytes(b"a copy of the weights")
    shards = {file.name for file in base.glob("*.safetensors")}
    assert len(shards) > 2
    export(base, adapter, tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {f.name for f in base.iterdir()} - {"pytorch_model.bin"} | {"lorafuse.json"}
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


def rename_tensors(base, change):
    path = base / "model.safetensors"
    tensors = load_file(path)
    save_file({change(name): tensor for name, tensor in tensors.items()}, path)


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


def no_head(base):
    rename_tensors(base, lambda name: name.replace("up_proj", "upproj"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_safetensors, r"pytorch_model.bin is a pickle and is never loaded: save the model"),
        (tied, r"lm_head shares its weights with another layer"),
        (no_head, r"has no tensor model.layers.0.mlp.up_proj.weight; near: .*upproj"),
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
