"""``lorafuse fuse`` and ``export`` of what is larger than memory: piece by piece, disk to disk."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.formats import load_members, load_peft, save_adapter, save_peft
from lorafuse_jax.formats.peft_layers import PeftLayers
from lorafuse_jax.formats.tensor_file import write_tensors
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.types import LoraPair, UserError
from lorafuse_jax.workflow import fused_pieces
from lorafuse_jax.workflow.export import export
from lorafuse_jax.workflow.fuse import FuseRequest, fuse
from tests.formats.adapters import INFO
from tests.fusion.members import assert_same

MODULE = "layers/self_attn/q_proj"
LAYERS = 3
FUSE = """
import re, sys
from pathlib import Path
import jax
from lorafuse_jax.workflow import fused_pieces
from lorafuse_jax.workflow.fuse import FuseRequest, fuse
from lorafuse_jax.workflow.members import members_of
jax.numpy.zeros(1).block_until_ready()
def memory(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
{more}
fuse(members_of(sys.argv[2:]), FuseRequest(operator="mean"), Path(sys.argv[1]))
print(memory("VmHWM") - before)
"""
KILLED = """
import os, signal
finish, done = fused_pieces.FusedPieces._finish, []
def finish_or_die(*given):
    done.append(1)
    if len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(*given)
fused_pieces.FusedPieces._finish = finish_or_die
"""


def write(folder, layers=LAYERS, size=24, ranks=(4, 2, 3), modules=(MODULE,)):
    """PEFT adapters of modules [size, size + 8], of a rank each."""
    folders = []
    for number, rank in enumerate(ranks):
        rng = np.random.default_rng(number)

        def draw(*shape, rng=rng):
            return jnp.asarray(rng.standard_normal(shape, dtype=np.float32) / 4)

        adapter = {
            m: LoraPair(draw(layers, size, rank), draw(layers, rank, size + 8)) for m in modules
        }
        folders.append(folder / f"member-{number}")
        save_peft(folders[-1], adapter, **INFO)
    return folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("members"))


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize("at_once", ["a layer", "all layers"])
@pytest.mark.parametrize(
    "operator", ["mean", "ties", "dare", "random_members:mean", "karcher", "karcher scope=global"]
)
def test_result_is_the_bytes_of_the_operator_on_all_members_in_memory(
    operator, at_once, folders, monkeypatch, tmp_path
):
    if at_once == "a layer":
        monkeypatch.setattr(fused_pieces, "PIECE_BYTES", 1)
    name, *settings = operator.split()
    op, members = get_operator(name), load_members(folders)
    request = FuseRequest(operator=name, settings=tuple(settings), key_seed=5)
    fuse(members, request, tmp_path / "pieces")
    key = {"key": jax.random.key(5)} if op.stochastic else {}
    whole = jax.jit(lambda stacked: op(stacked, **key, **dict(s.split("=") for s in settings)))
    fused = whole(members.stacked)
    save_adapter(tmp_path / "whole", fused, **INFO)
    if (name, at_once, settings) == ("karcher", "a layer", []):  # XLA rounds batches otherwise
        assert_same(load_peft(tmp_path / "pieces"), load_peft(tmp_path / "whole"), 1e-6)
    else:
        assert files(tmp_path / "pieces") == files(tmp_path / "whole")


def test_layers_of_one_shape_share_one_program(tmp_path, monkeypatch):
    monkeypatch.setattr(fused_pieces, "PIECE_BYTES", 1)
    members = load_members(write(tmp_path, modules=(MODULE, "layers/self_attn/k_proj")))
    pieces = fused_pieces.FusedPieces(get_operator("mean"), members, {}, rank=None, key_seed=0)
    assert pieces.count == len(list(pieces)) == 2 * LAYERS
    assert pieces._program._cache_size() == 1


def run(out, folders, more="", check=True):
    words = [sys.executable, "-c", FUSE.format(more=more), out, *folders]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=check)


def test_memory_is_that_of_a_few_layers_whatever_their_number(tmp_path):
    """0.24 GB, most of it one piece of layers; with all members in memory it was 0.84."""
    folders = write(tmp_path, layers=24, size=4096, ranks=(64, 64, 64))
    peak = int(run(tmp_path / "out", folders).stdout.splitlines()[-1])
    assert peak < 320e6


def test_killed_fusion_leaves_nothing_that_is_taken_for_a_result(folders, tmp_path):
    more = KILLED + "fused_pieces.PIECE_BYTES = 1"
    assert run(tmp_path / "out", folders, more, check=False).returncode == -signal.SIGKILL
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    fuse(load_members(folders), FuseRequest(operator="mean"), tmp_path / "out")
    assert load_peft(tmp_path / "out").keys() == {MODULE}


def test_fusion_that_fails_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    """A member's last layer is gone since it was looked at."""
    monkeypatch.setattr(fused_pieces, "PIECE_BYTES", 1)
    members = load_members(write(tmp_path / "of"))
    weights = tmp_path / "of" / "member-1" / "adapter_model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    with pytest.raises(UserError, match=r"member-1/.* was cut short while it was read"):
        fuse(members, FuseRequest(operator="mean"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["of"]


def test_full_disk_is_said_before_anything_is_fused(folders, tmp_path, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    members = load_members(folders)
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(PeftLayers, "read", None)
    for operator in ("mean", "magnitude_pruning"):
        with pytest.raises(UserError, match="out: no space left on the disk"):
            fuse(members, FuseRequest(operator=operator), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


def test_headers_of_all_members_are_compared_before_any_numbers_are_read(
    folders, tmp_path, monkeypatch
):
    monkeypatch.setattr(PeftLayers, "read", None)
    other = write(tmp_path, size=32, ranks=(4,))
    message = r"member-0: model.layers.0.self_attn.q_proj is \[I, O\] = \[32, 40\], in .*member-1"
    with pytest.raises(UserError, match=message):
        load_members([folders[1], folders[2], *other])
    weights = other[0] / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"member-0/adapter_model.safetensors is damaged"):
        load_members([folders[1], *other])


def write_base(folder, layers, size):
    rng = np.random.default_rng(0)
    names = (f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(layers))
    folder.mkdir()
    tensors = {n: rng.standard_normal((size + 8, size), dtype=np.float32) for n in names}
    write_tensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": false}')
    return sum(tensor.nbytes for tensor in tensors.values())


def test_export_takes_the_memory_of_one_weight_of_a_shard(tmp_path):
    layers, size = 24, 512
    total = write_base(tmp_path / "base", layers, size)
    (adapter,) = write(tmp_path, layers=layers, size=size, ranks=(8,))
    tracemalloc.start()
    try:
        export(tmp_path / "base", adapter, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * total / layers


def test_export_that_has_no_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    write_base(tmp_path / "base", LAYERS, 24)
    (adapter,) = write(tmp_path, ranks=(4,))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(UserError, match=r"out would take 0\.0 GB, and its disk has 0\.0 GB left"):
        export(tmp_path / "base", adapter, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "member-0"]
