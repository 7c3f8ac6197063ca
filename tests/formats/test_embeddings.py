"""Adapters of embeddings and output heads: PEFT's files there and back, and merged checkpoints."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

import lorafuse_jax as lf
from lorafuse_jax.formats import load_peft, read_peft_config, save_peft
from lorafuse_jax.formats.dense import save_dense
from lorafuse_jax.formats.targets import selects
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.export import export
from tests.models.families import TYPICAL, torch_model

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ROUNDING = 3e-5
"""Relative to the largest logit: two orders of summation in float32, over three layers."""

TOKENS = torch.arange(3, 21)[None]
SETTINGS = {
    "llama": {"tie_word_embeddings": False},
    "tied llama": {"tie_word_embeddings": True},
    "gemma3_text": {"final_logit_softcapping": 5.0},
    "gpt2": {},
}
families = pytest.mark.parametrize("name", SETTINGS)


def build(name):
    family = name.removeprefix("tied ")
    return torch_model(family, 4, TYPICAL[family] | SETTINGS[name])


def adapted(name, targets=None, **settings):
    """A PEFT model whose adapter is random."""
    gpt2 = name == "gpt2"
    ends = ["wte", "lm_head"] if gpt2 else ["embed_tokens", "lm_head"]
    targets = targets or ["mlp.c_fc" if gpt2 else "up_proj", *ends]
    config = LoraConfig(
        r=3, lora_alpha=6, target_modules=targets, fan_in_fan_out=gpt2, task_type="CAUSAL_LM"
    )
    model = get_peft_model(build(name), config)
    torch.manual_seed(2)
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits.numpy()


def assert_same(found, expected, unlike):
    """The same logits, which are not the base's."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=ROUNDING * largest)
    assert np.abs(found - unlike).max() > 0.03 * largest


@families
def test_pefts_adapter_comes_back_and_peft_computes_with_it(name, tmp_path):
    theirs = adapted(name)
    theirs.save_pretrained(tmp_path / "theirs")
    adapter = load_peft(tmp_path / "theirs")
    table = "transformer/wte" if name == "gpt2" else "embed_tokens"
    width = theirs.config.hidden_size
    assert [leaf.shape for leaf in adapter[table]] == [(1, 61, 3), (1, 3, width)]
    assert [leaf.shape for leaf in adapter["lm_head"]] == [(1, width, 3), (1, 3, 61)]
    carried = read_peft_config(tmp_path / "theirs").carried
    save_peft(tmp_path / "ours", adapter, base_model="", provenance={}, carried=carried)
    ours, before = (load_file(tmp_path / folder / WEIGHTS) for folder in ("ours", "theirs"))
    assert ours.keys() == {key for key in before if not key.endswith("base_layer.weight")}
    for key, tensor in ours.items():
        scale = 2 if "lora_B" in key or "embedding_B" in key else 1
        np.testing.assert_array_equal(tensor, scale * before[key])
    assert read_peft_config(tmp_path / "ours").carried == carried
    again = logits(PeftModel.from_pretrained(build(name), tmp_path / "ours").eval())
    assert_same(again, logits(theirs), logits(build(name)))


@pytest.mark.parametrize("targets", [["embed_tokens"], ["up_proj", "lm_head"]])
def test_one_end_alone_is_named_in_full_where_nothing_is_carried(targets, tmp_path):
    theirs = adapted("tied llama", targets)
    theirs.save_pretrained(tmp_path / "theirs")
    save_peft(tmp_path / "ours", load_peft(tmp_path / "theirs"), base_model="", provenance={})
    named = read_peft_config(tmp_path / "ours").carried["target_modules"]
    assert ("model.embed_tokens" in named) == ("embed_tokens" in targets)
    again = logits(PeftModel.from_pretrained(build("tied llama"), tmp_path / "ours").eval())
    assert_same(again, logits(theirs), logits(build("tied llama")))


def test_all_linear_is_not_the_embedding():
    where = {"target_modules": "all-linear"}
    assert selects(where, "model.layers.0.mlp.up_proj")
    assert not selects(where, "model.embed_tokens") and not selects(where, "lm_head")


def rename(folder, old, new):
    tensors = load_file(folder / WEIGHTS)
    save_file({key.replace(old, new): t for key, t in tensors.items()}, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model.embed_tokens", "model.shared", r"shared.lora_embedding_.* belongs to an embedding"),
        ("up_proj", "embed_tokens", r"embed_tokens.lora_A.weight' belongs to a linear layer"),
        ("model.model.embed_tokens", "model.embed_tokens", "cannot use tensor .*embed_tokens"),
        ("embedding_B", "embedding_C", "cannot use tensor .*lora_embedding_C"),
    ],
)
def test_embeddings_that_would_not_be_written_again_are_refused(old, new, message, tmp_path):
    adapted("llama").save_pretrained(tmp_path)
    rename(tmp_path, old, new)
    with pytest.raises(UserError, match=message):
        load_peft(tmp_path)


def write_base(name, folder, **how):
    build(name).save_pretrained(folder, **how)
    return folder


def without_first_part(folder):
    """As gpt2 is on the hub."""
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_copy(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tied_by_default(folder):
    """As Gemma's configurations are, which leave out what is the family's default."""
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("tie_word_embeddings", True)
    (folder / "config.json").write_text(json.dumps(config))


CHECKPOINTS = {
    "untied": ("llama", {}, None, None),
    "tied": ("tied llama", {}, None, None),
    "tied, embedding alone": ("tied llama", {}, None, ["embed_tokens"]),
    "tied, head alone": ("tied llama", {}, None, ["lm_head"]),
    "tied, with a copy": ("tied llama", {}, with_a_copy, ["embed_tokens"]),
    "tied, in shards": ("gemma3_text", {"max_shard_size": "9KB"}, None, None),
    "tied by default": ("gemma3_text", {}, tied_by_default, ["lm_head"]),
    "gpt2": ("gpt2", {}, None, None),
    "gpt2 as on the hub": ("gpt2", {}, without_first_part, ["wte"]),
}


@pytest.mark.parametrize("kind", ["low-rank", "dense"])
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_merged_checkpoint_computes_what_peft_does(case, kind, tmp_path):
    name, how, spoil, targets = CHECKPOINTS[case]
    base = write_base(name, tmp_path / "base", **how)
    if spoil:
        spoil(base)
    theirs = adapted(name, targets)
    theirs.save_pretrained(tmp_path / "adapter")
    if kind == "dense":
        carried = {"carried": read_peft_config(tmp_path / "adapter").carried}
        whole = lf.to_delta(load_peft(tmp_path / "adapter"))
        save_dense(tmp_path / "dense", whole, base_model="", provenance=carried)
    folder = tmp_path / ("dense" if kind == "dense" else "adapter")
    export(base, folder, tmp_path / "out")
    merged, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert_same(logits(merged.eval()), logits(theirs), logits(build(name)))
    tied = json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"]
    assert tied is False
    before, after = tensors_of(base), tensors_of(tmp_path / "out")
    assert before.keys() | {"lm_head.weight"} == after.keys()
    layers = [key for key in before if ".layers." in key or "h." in key]
    changed = [key for key in layers if not np.array_equal(before[key], after[key])]
    assert len(changed) == (0 if targets else 3)


def tensors_of(folder):
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def test_tied_table_within_a_larger_model_is_not_parted(tmp_path):
    base = write_base("tied llama", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"text_config": {"model_type": "llama"}}))
    adapted("tied llama").save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"one table .* cannot be parted; leave .*embed_tokens"):
        export(base, tmp_path / "adapter", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}
