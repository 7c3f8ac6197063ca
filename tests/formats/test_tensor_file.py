"""Safetensors files that are written tensor by tensor."""

import errno
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorafuse_jax.formats.tensor_file import Form, TensorFile, settle, write_tensors

RNG = np.random.default_rng(0)
TENSORS = {
    "b.10": RNG.normal(size=(3, 4)).astype(np.float32),
    "b.2": RNG.normal(size=(2, 5)).astype(np.float32),
    "z": RNG.normal(size=7),
    "a": RNG.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
    "a.é": RNG.normal(size=(3, 1)).astype(np.float16),
}
FORMS = {name: Form(tensor.shape, tensor.dtype) for name, tensor in TENSORS.items()}


def test_bytes_are_those_of_the_safetensors_library_in_whatever_order_tensors_come(tmp_path):
    save_file(TENSORS, tmp_path / "theirs", metadata={"format": "pt"})
    with TensorFile(tmp_path / "ours", FORMS) as file:
        for name in reversed(TENSORS):
            file.put(name, TENSORS[name])
    assert file.is_as_said()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_transposed_tensor_is_written_as_it_looks(tmp_path):
    write_tensors(tmp_path / "t", {"t": TENSORS["b.10"].T})
    np.testing.assert_array_equal(load_file(tmp_path / "t")["t"], TENSORS["b.10"].T)


def test_tensors_that_came_smaller_or_not_are_settled_to_the_file_of_what_came(tmp_path):
    came = {"b.10": TENSORS["b.10"][:2], "a": TENSORS["a"]}
    with TensorFile(tmp_path / "draft", FORMS) as draft:
        for name, tensor in came.items():
            draft.put(name, tensor)
    wanted = {name: Form(tensor.shape, tensor.dtype) for name, tensor in came.items()}
    settle(draft, tmp_path / "ours", wanted)
    write_tensors(tmp_path / "at once", came)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "at once").read_bytes()
    assert not (tmp_path / "draft").exists()


def test_settling_fills_up_with_zeros(tmp_path):
    with TensorFile(tmp_path / "draft", {"a": FORMS["a"]}) as draft:
        draft.put("a", TENSORS["a"])
    settle(draft, tmp_path / "ours", {"a": Form((4, 3), FORMS["a"].dtype)})
    found = load_file(tmp_path / "ours")["a"]
    np.testing.assert_array_equal(found, np.pad(TENSORS["a"], ((0, 2), (0, 0))))


@pytest.mark.parametrize("tensor", [np.zeros((3, 5), "f4"), np.zeros((3, 4), "f8")])
def test_tensor_that_there_is_no_room_for_is_refused(tensor, tmp_path):
    with TensorFile(tmp_path / "t", FORMS) as file, pytest.raises(ValueError, match="room for"):
        file.put("b.10", tensor)


def test_room_is_taken_before_anything_comes(tmp_path, monkeypatch):
    asked = []

    def full(descriptor, start, size):
        asked.append(size)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="full"):
        TensorFile(tmp_path / "t", FORMS)
    monkeypatch.undo()
    write_tensors(tmp_path / "t", TENSORS)
    assert asked == [(tmp_path / "t").stat().st_size]
