"""Adapters that are to be fused, checked against each other."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import take
from lorafuse_jax.formats import load_members, load_peft, save_adapter, save_peft
from lorafuse_jax.types import LoraPair, UserError
from tests.formats.adapters import INFO, random_dense, random_pairs
from tests.formats.families import train

Q, DOWN = "layers/self_attn/q_proj", "layers/mlp/down_proj"


def write(folder, name, adapter=None, **about):
    save_peft(folder / name, adapter or random_pairs(seed=ord(name)), **(INFO | about))
    return folder / name


def change_config(folder, **changes):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))


def test_members_of_different_rank_and_alpha_are_stacked(tmp_path):
    folders = []
    for number, settings in enumerate(({"r": 4, "lora_alpha": 8}, {"r": 2, "lora_alpha": 3})):
        train("gpt2", seed=number, **settings).save_pretrained(tmp_path / str(number))
        folders.append(tmp_path / str(number))
    members = load_members(folders)
    assert members.carried["fan_in_fan_out"] is True
    assert set(members.carried["target_modules"]) == {"c_attn", "c_proj"}
    for number, folder in enumerate(folders):
        ours: Any = take(members.stacked, number)
        for module, pair in load_peft(folder).items():
            assert isinstance(pair, LoraPair)
            expected = np.asarray(pair.lora_a @ pair.lora_b)
            found = ours[module].lora_a @ ours[module].lora_b
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(set(members.hashes)) == 2


def test_hash_tells_members_apart_and_not_their_places(tmp_path):
    first = load_members([write(tmp_path, "a"), write(tmp_path, "b")])
    (tmp_path / "a").rename(tmp_path / "c")
    second = load_members([tmp_path / "b", tmp_path / "c"])
    assert first.hashes == second.hashes[::-1]
    assert first.hashes[0] != first.hashes[1]


BASES = [
    ("org/m", "/data/m/"),
    ("org/M", "org/m"),
    ("m", ""),
    ("org/m", "/root/.cache/huggingface/hub/models--org--m/snapshots/0a1b2c/"),
]


@pytest.mark.parametrize(("one", "other"), BASES)
def test_base_models_with_one_name_in_other_places_are_one(one, other, tmp_path):
    folders = [write(tmp_path, "a", base_model=one), write(tmp_path, "b", base_model=other)]
    assert load_members(folders).base_model == one


def test_members_of_different_base_models_are_refused_unless_they_are_said_to_be_one(tmp_path):
    folders = [write(tmp_path, "a", base_model="org/m"), write(tmp_path, "b", base_model="org/n")]
    with pytest.raises(UserError, match=r"/b was trained on 'org/n', .*/a on 'org/m'.*--base"):
        load_members(folders)
    assert load_members(folders, base_model="org/m").base_model == "org/m"


def without(adapter, module):
    return {name: update for name, update in adapter.items() if name != module}


def resized(adapter):
    pair = adapter[Q]
    return adapter | {Q: LoraPair(pair.lora_a[:, :9], pair.lora_b)}


def resized_layer(adapter):
    """As if its second layer were of another model."""
    a, b = adapter[Q]
    own = "model/layers/{}/self_attn/q_proj"
    return without(adapter, Q) | {
        own.format(0): LoraPair(a[:1], b[:1]),
        own.format(1): LoraPair(a[1:, :9], b[1:]),
    }


def without_layer(adapter):
    return adapter | {Q: LoraPair(*(leaf.at[1].set(0) for leaf in adapter[Q]))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: without(a, DOWN),
            r"/b lacks module model.layers.0.mlp.down_proj, which .*/a adapts .and 1 more",
        ),
        (lambda a: a | {"layers/x": a[Q]}, r"/a lacks module model.layers.0.x, which .*/b adapts"),
        (
            resized,
            r"/b: model.layers.0.self_attn.q_proj is \[I, O\] = \[9, 16\], in .*/a \[16, 16\]",
        ),
        (
            resized_layer,
            r"/b: model.layers.1.self_attn.q_proj is \[I, O\] = \[9, 16\], in .*/a \[16, 16\]",
        ),
        (without_layer, r"/b lacks module model.layers.1.self_attn.q_proj, which .*/a adapts"),
        (
            lambda a: {m: LoraPair(p.lora_a, 0 * p.lora_b) for m, p in a.items()},
            r"/b: all of its updates are zero",
        ),
    ],
)
def test_members_that_differ_are_refused_by_name(change, message, tmp_path):
    folders = [write(tmp_path, "a"), write(tmp_path, "b", change(random_pairs(seed=3)))]
    with pytest.raises(UserError, match=message):
        load_members(folders)


def test_members_with_other_targets_in_their_configurations_carry_none(tmp_path):
    folders = [write(tmp_path, "a"), write(tmp_path, "b")]
    change_config(folders[1], target_modules=r".*(q_proj|down_proj)")
    assert "target_modules" not in load_members(folders).carried


def test_members_of_different_tasks_make_something_without_a_task(tmp_path):
    folders = [write(tmp_path, "a"), write(tmp_path, "b")]
    change_config(folders[1], task_type="SEQ_CLS")
    assert load_members(folders).carried["task_type"] is None


@pytest.mark.parametrize(
    ("names", "message"), [([], "no adapters were given"), (["a", "b", "a"], "/a is given twice")]
)
def test_no_members_and_members_given_twice_are_refused(names, message, tmp_path):
    for name in sorted(set(names)):
        write(tmp_path, name)
    with pytest.raises(UserError, match=message):
        load_members([tmp_path / name for name in names])


def test_dense_member_is_refused(tmp_path):
    save_adapter(tmp_path / "d", random_dense(), **INFO)
    with pytest.raises(UserError, match=r"/d is a dense delta"):
        load_members([write(tmp_path, "a"), tmp_path / "d"])


def test_member_in_half_precision_is_fused_in_single(tmp_path):
    half = random_pairs(seed=2, dtype=jnp.bfloat16)
    members = load_members([write(tmp_path, "a"), write(tmp_path, "b", half)])
    assert members.stacked[Q][0].dtype == jnp.float32
