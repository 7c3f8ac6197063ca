"""Bytes that devices send, in programs where they are known."""

import json

import pytest

from lorafuse_jax.plan.collectives import sent_bytes
from lorafuse_jax.plan.program import parse
from tests.parallel.given import run_on_devices
from tests.plan.sharded_programs import ENTRIES, TURNS

SIZE = 4 * ENTRIES
KNOWN = {
    "reduced": ["all-reduce", "data", SIZE, 1],
    "gathered": ["all-gather", "data+model", 3 * SIZE, 1],
    "scattered": ["reduce-scatter", "seed", SIZE // 2, 1],
    "permuted": ["collective-permute", "model", SIZE, 1],
    "exchanged": ["all-to-all", "seed", SIZE // 2, 1],
    "looped": ["all-reduce", "model", TURNS * SIZE, TURNS],
}


@pytest.fixture(scope="module")
def found():
    return json.loads(run_on_devices("tests.plan.sharded_programs"))


@pytest.mark.parametrize("name", KNOWN)
def test_bytes_of_a_known_program(found, name):
    assert found[name] == [KNOWN[name]]


MESH = {"seed": 2, "data": 4, "model": 1}
GROUPS = {
    "{{0,1,2,3},{4,5,6,7}}": "data",
    "[2,4]<=[8]": "data",
    "[4,2]<=[2,4]T(1,0)": "seed",
    "mesh['axis_0'=2,'axis_1'=4] {'axis_0'}": "seed",
    "mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}": "data",
    "mesh['a'=8] {'a':(2)4}": "data",
    "{}": "seed+data",
}


def program(groups: str, channels: tuple[int, int]) -> str:
    lines = "\n".join(
        f"  %g{k} = f32[16] all-gather(%x), channel_id={channel}, replica_groups={groups}, "
        "dimensions={0}"
        for k, channel in enumerate(channels)
    )
    return f"ENTRY %main (x: f32[4]) -> f32[4] {{\n  %x = f32[4] parameter(0)\n{lines}\n}}\n"


@pytest.mark.parametrize("groups", GROUPS)
def test_axes_of_every_way_to_write_groups(groups):
    (sent,) = sent_bytes(parse(program(groups, (1, 2))), MESH)
    assert (sent.axes, sent.times) == (GROUPS[groups], 2)


def test_pieces_of_one_collective_count_once():
    (sent,) = sent_bytes(parse(program("[2,4]<=[8]", (1, 1))), MESH)
    assert (sent.bytes, sent.times) == (48, 1)


def test_groups_that_are_not_understood_are_said():
    with pytest.raises(ValueError, match="not understood"):
        sent_bytes(parse(program("spiral", (1, 2))), MESH)
