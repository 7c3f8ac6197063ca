"""Dense adapters on disk."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorafuse_jax.adapter import to_delta
from lorafuse_jax.formats import load_adapter, read_provenance, save_adapter
from lorafuse_jax.formats.dense import load_dense, save_dense, write_dense
from lorafuse_jax.formats.pieces import Piece
from lorafuse_jax.types import DenseDelta, UserError
from tests.formats.adapters import INFO, random_dense, random_pairs

FILES = {"q_proj": "delta-00000.safetensors", "down_proj": "delta-00001.safetensors"}
FILE = FILES["q_proj"]
NAME = "model.layers.1.self_attn.q_proj.delta"


def test_dense_adapter_comes_back_bit_for_bit(tmp_path):
    adapter = random_dense()
    save_adapter(tmp_path / "a", adapter, **INFO)
    loaded: Any = load_adapter(tmp_path / "a")
    assert loaded.keys() == adapter.keys()
    for module, update in adapter.items():
        assert isinstance(loaded[module], DenseDelta)
        np.testing.assert_array_equal(loaded[module].delta, update.delta)
    assert {file.name for file in (tmp_path / "a").iterdir()} == {
        *(file for file in FILES.values()),
        "delta.safetensors.index.json",
        "provenance.json",
    }
    assert read_provenance(tmp_path / "a")["operator"] == "mean"


def test_file_holds_one_matrix_fan_in_by_fan_out_a_layer(tmp_path):
    adapter = random_dense()
    save_dense(tmp_path / "a", adapter, **INFO)
    tensors = load_file(tmp_path / "a" / FILE)
    np.testing.assert_array_equal(tensors[NAME], adapter["layers/self_attn/q_proj"].delta[1])
    other = load_file(tmp_path / "a" / FILES["down_proj"])
    assert other["model.layers.0.mlp.down_proj.delta"].shape == (24, 16)


def test_adapter_of_both_kinds_is_saved_dense(tmp_path):
    module = "layers/mlp/down_proj"
    mixed = random_dense() | {module: random_pairs()[module]}
    save_adapter(tmp_path / "a", mixed, **INFO)
    expected, loaded = to_delta(mixed)[module], load_adapter(tmp_path / "a")[module]
    np.testing.assert_array_equal(loaded[0], expected[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), rf"lacks tensor {NAME}, which delta.safetensors.index.json lists"),
        (lambda t: t.update(extra=np.ones((2, 2))), "cannot use tensor 'extra'"),
        (lambda t: t.update({NAME: np.ones(3)}), rf"cannot use tensor '{NAME}' \[3\]"),
        (lambda t: t[NAME].fill(np.nan), "has NaN or infinite entries"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change, message, tmp_path):
    save_dense(tmp_path / "a", random_dense(), **INFO)
    tensors = load_file(tmp_path / "a" / FILE)
    change(tensors)
    save_file(tensors, tmp_path / "a" / FILE)
    with pytest.raises(UserError, match=message):
        load_dense(tmp_path / "a")


def test_layers_of_other_shapes_are_modules_of_their_own(tmp_path):
    uneven = {
        "down_blocks/0/to_q": DenseDelta(jnp.ones((1, 4, 6))),
        "down_blocks/1/to_q": DenseDelta(jnp.ones((1, 8, 6))),
    }
    save_dense(tmp_path / "a", uneven, **INFO)
    loaded = load_dense(tmp_path / "a")
    assert {m: update[0].shape for m, update in loaded.items()} == {
        m: update[0].shape for m, update in uneven.items()
    }


def test_missing_shard_is_named(tmp_path):
    save_dense(tmp_path / "a", random_dense(), **INFO)
    (tmp_path / "a" / FILE).unlink()
    with pytest.raises(UserError, match=rf"{FILE} is missing; delta.safetensors.index.json lists"):
        load_dense(tmp_path / "a")


def test_dense_adapter_is_written_piece_by_piece(tmp_path):
    whole = random_dense()
    asked = []

    def pieces():
        for module, update in whole.items():
            for layer, delta in enumerate(update.delta):
                asked.append(len(list(tmp_path.glob(".*/*/delta-*.safetensors"))))
                yield Piece(module, layer, DenseDelta(delta[None]))

    like = {module: jax.eval_shape(lambda leaf: leaf, update) for module, update in whole.items()}
    write_dense(tmp_path / "pieces", like, pieces(), **INFO)
    assert asked == [2] * 4  # all files are there, and their room is taken, before the first
    save_dense(tmp_path / "whole", whole, **INFO)
    for file in FILES.values():
        whole_bytes = (tmp_path / "whole" / file).read_bytes()
        assert (tmp_path / "pieces" / file).read_bytes() == whole_bytes
