"""Checkpoints: whole or not used; what a damaged disk does to them is found."""

import json
import os
import random
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.formats.checkpoint import Checkpoints, Damaged, read_whole
from lorafuse_jax.types import UserError

BY = {"config": "abc", "versions": {"jax": "1"}}


def tree(step):
    rng = np.random.default_rng(step)
    return {"a": jnp.asarray(rng.normal(size=(40, 60)), jnp.float32), "b": (jnp.arange(step),) * 2}


def saved(folder, steps=(3, 6), by=BY):
    checkpoints = Checkpoints(folder, by)
    for step in steps:
        checkpoints.save(step, tree(8) | {"step": jnp.int32(step)}, {"n": step})
    return checkpoints


def like():
    return tree(8) | {"step": jnp.int32(0)}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    saved(folder)
    return folder


@pytest.fixture
def copy(two, tmp_path):
    return shutil.copytree(two, tmp_path / "checkpoints")


def files_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def test_restored_tree_is_the_saved_one_bitwise_and_older_ones_are_removed(tmp_path):
    checkpoints = saved(tmp_path, steps=(3, 6, 9))
    restored = Checkpoints(tmp_path, BY).restore(like(), pytest.fail)
    assert (restored.step, restored.beside) == (9, {"n": 9})
    expected = tree(8) | {"step": jnp.int32(9)}
    jax.tree.map(np.testing.assert_array_equal, restored.tree, expected)
    assert checkpoints.steps() == [6, 9]


def test_folder_without_checkpoints_restores_nothing(tmp_path):
    assert Checkpoints(tmp_path / "none", BY).restore(like(), pytest.fail) is None


def test_every_flipped_bit_is_found_in_whichever_file_it_is(copy):
    rng = random.Random(0)
    for file in files_of(copy / "6"):
        content = file.read_bytes()
        for place in rng.sample(range(len(content)), min(20, len(content))):
            flipped = bytearray(content)
            flipped[place] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            with pytest.raises(Damaged):
                read_whole(copy / "6")
        file.write_bytes(content)
    assert read_whole(copy / "6")["step"] == 6


@pytest.mark.parametrize("damage", ["truncated", "emptied", "missing", "renamed"])
def test_damaged_checkpoint_is_said_and_removed_and_the_one_before_is_used(copy, damage):
    victim = max(files_of(copy / "6"), key=lambda file: file.stat().st_size)
    if damage == "truncated":
        os.truncate(victim, victim.stat().st_size // 2)
    elif damage == "emptied":
        os.truncate(victim, 0)
    elif damage == "missing":
        victim.unlink()
    else:
        (copy / "6").rename(copy / "9")
    said = []
    restored = Checkpoints(copy, BY).restore(like(), said.append)
    assert restored.step == 3 and int(restored.tree["step"]) == 3
    assert len(said) == 1 and "is damaged" in said[0] and "going back to step 3" in said[0]
    assert Checkpoints(copy, BY).steps() == [3]


def test_nothing_is_restored_where_all_are_damaged(copy):
    for step in ("3", "6"):
        (copy / step / "checkpoint.json").write_text("{}")
    said = []
    assert Checkpoints(copy, BY).restore(like(), said.append) is None
    assert len(said) == 2 and said[1].endswith("starting again")


def test_unfinished_folders_of_a_killed_process_are_removed(copy):
    (copy / ".9-x1y2" / "9" / "arrays").mkdir(parents=True)
    assert Checkpoints(copy, BY).restore(like(), pytest.fail).step == 6
    assert sorted(path.name for path in copy.iterdir()) == ["3", "6"]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (BY | {"config": "other"}, "config: abc there, other now"),
        (BY | {"versions": {"jax": "2"}}, "versions: {'jax': '1'} there, {'jax': '2'} now"),
    ],
)
def test_checkpoint_of_another_configuration_or_version_is_refused_and_kept(copy, by, message):
    with pytest.raises(UserError, match="another configuration or version") as error:
        Checkpoints(copy, by).restore(like(), pytest.fail)
    assert message in str(error.value)
    assert Checkpoints(copy, BY).steps() == [3, 6]


def test_checkpoint_of_another_structure_is_refused(copy):
    with pytest.raises(UserError, match="not of this run's structure"):
        Checkpoints(copy, BY).restore({"a": jnp.zeros(3)}, pytest.fail)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_full_disk_is_said_and_leaves_the_checkpoint_before_whole(small_disk):
    large = {"a": jnp.asarray(np.random.default_rng(0).normal(size=36_000), jnp.float32)}
    checkpoints = Checkpoints(small_disk / "checkpoints", BY)
    checkpoints.save(3, large)
    with pytest.raises(UserError, match=r"no space left.*step 6; the one of step 3 is whole"):
        checkpoints.save(6, large)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["3"]
    restored = checkpoints.restore(large, pytest.fail)
    np.testing.assert_array_equal(restored.tree["a"], large["a"])


def test_about_is_readable_json(two):
    about = json.loads((two / "6" / "checkpoint.json").read_text())["about"]
    assert about["written_by"] == BY and about["beside"] == {"n": 6}
