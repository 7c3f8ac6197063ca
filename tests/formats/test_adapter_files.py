"""How an adapter lies on disk: ranks that can be served, weights in several files."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorafuse_jax.formats import load_peft, save_peft
from lorafuse_jax.formats.tensors import write_index
from lorafuse_jax.types import LoraPair, UserError
from tests.formats.families import load, logits, train

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


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
