"""How weights get to their place: no second copy, the type and sharding asked for, hub names."""

import os
import subprocess
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub.utils import filter_repo_objects

from lorafuse_jax import memory
from lorafuse_jax.models import filling, hub, weights
from lorafuse_jax.models.families.llama import WEIGHTS, config_from_hf
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.models.safetensors_folder import stored_tensors
from lorafuse_jax.types import UserError
from tests.models.families import torch_model
from tests.tiny import write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


WIDE = {
    "vocab_size": 3000,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}


def test_loading_holds_the_parameters_and_a_piece_of_a_tensor(tmp_path, monkeypatch):
    """Arrays on the device are counted before each read, NumPy's at their peak."""
    monkeypatch.setattr(filling, "PIECE_ENTRIES", 96 * 256)
    torch_model("llama", 0, WIDE).save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 4
    config = config_from_hf({"model_type": "llama"} | WIDE)
    on_device = lambda: sum(array.nbytes for array in jax.live_arrays())  # noqa: E731
    before, seen = on_device(), []

    def watched(stored):
        def read(rows):
            seen.append(on_device() - before)
            return stored.read(rows)

        return stored._replace(read=read)

    tensors = [watched(stored) for stored in stored_tensors(tmp_path)]
    load = lambda: weights.load_params(tensors, config, WEIGHTS, np.float32, where=tmp_path)  # noqa: E731
    load()  # so that compiling is not counted
    seen.clear()
    tracemalloc.start()
    params = load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    piece = 4 * 96 * 256
    assert len(seen) > 12 * 9
    assert max(seen) <= size + 2 * piece
    assert peak < 5 * piece < 0.15 * size


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_quantising_in_pieces_changes_nothing(folder, monkeypatch, quantization):
    whole = load_model(folder, quantization=quantization).params
    monkeypatch.setattr(filling, "PIECE_ENTRIES", 5 * 16)  # of 24 output channels, five at a time
    pieces = load_model(folder, quantization=quantization).params
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(pieces), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_parameter_is_written_in_place():
    whole = jnp.zeros((3, 4))
    written = filling._write(whole, np.ones((1, 4), np.float32), (1, 0))
    assert whole.is_deleted()
    np.testing.assert_array_equal(written, [[0] * 4, [1] * 4, [0] * 4])


@pytest.mark.parametrize("wanted", [jnp.bfloat16, "bfloat16", np.float16, "float32", None])
def test_all_weights_have_the_type_that_was_chosen(folder, wanted):
    params = load_model(folder, dtype=wanted).params
    expected = np.float32 if wanted is None else jnp.dtype(wanted)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(expected)}


@pytest.mark.parametrize("wanted", [jnp.int8, "float64", "flaot32", jnp.float8_e4m3fn])
def test_types_that_weights_cannot_have_are_refused(folder, wanted):
    with pytest.raises(UserError, match=r"weights cannot be .*; float32, bfloat16, float16 serve"):
        load_model(folder, dtype=wanted)


@pytest.mark.parametrize("quantization", [None, "nf4"])
def test_a_model_that_is_larger_than_the_memory_is_not_begun(folder, monkeypatch, quantization):
    params = load_model(folder, quantization=quantization).params
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    monkeypatch.setattr(memory, "usable_bytes", lambda: size)
    load_model(folder, quantization=quantization)
    monkeypatch.setattr(memory, "usable_bytes", lambda: size - 1)
    monkeypatch.setattr(weights, "Filling", None)
    with pytest.raises(UserError, match=r"take .* GiB, and .* GiB may be taken; load them in bflo"):
        load_model(folder, quantization=quantization)


SHARDED = """
import sys, jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.types import UserError
mesh = Mesh(np.array(jax.devices()), ("model",))
wanted = {
    "layers/mlp/up_proj/kernel": NamedSharding(mesh, P(None, None, "model")),
    "embed_tokens/embedding": NamedSharding(mesh, P(None, "model")),
}
for quantization in (None, "nf4"):
    whole = load_model(sys.argv[1], quantization=quantization).params
    params = load_model(sys.argv[1], quantization=quantization, shardings=wanted).params
    kernel, embedding = params["layers"]["mlp"]["up_proj"]["kernel"], params["embed_tokens"]
    for leaf in jax.tree.leaves((kernel, embedding)):
        assert len(leaf.addressable_shards) == 4
        assert leaf.addressable_shards[0].data.nbytes == leaf.nbytes / 4
    for mine, other in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(mine, other)
for path, axes in (("layers/mlp/up", P()), ("norm/scale", P(None, "model"))):
    try:
        load_model(sys.argv[1], shardings={path: NamedSharding(mesh, axes)})
    except UserError as error:
        print(error)
"""


def test_parameters_are_loaded_to_the_shardings_that_are_named(folder):
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    result = subprocess.run(
        [sys.executable, "-c", SHARDED, str(folder)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("shardings name 'layers/mlp/up'; the parameters are embed_tokens/")
    assert lines[1].startswith("norm/scale cannot be laid out as its sharding says")


def test_a_hub_name_is_fetched_without_copies_in_other_layouts(folder, monkeypatch):
    listed = ["config.json", "model-1.safetensors", "model.safetensors.index.json"]
    listed += ["tokenizer.json", "chat_template.jinja", "tokenizer.model", "merges.txt"]
    others = ["pytorch_model.bin", "consolidated.safetensors", "original/params.json", "run.py"]

    def given(name, *, allow_patterns, ignore_patterns):
        assert name == "owner/name"
        kept = filter_repo_objects(
            [*listed, *others], allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        assert list(kept) == listed
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", given)
    assert load_model("owner/name").fingerprint == load_model(folder).fingerprint
