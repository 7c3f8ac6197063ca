"""Training on meshes of eight devices is training on one; and what they say to each other."""

import json

import jax
import pytest

from lorafuse_jax.parallel.mesh import (
    MeshShape,
    check_divides,
    default_mesh,
    make_mesh,
    parse_mesh,
)
from lorafuse_jax.types import UserError
from tests.parallel.collectives import spoken_along
from tests.parallel.given import run_on_devices

LOSSES, ADAPTERS = 1e-4, 1e-2
"""Tolerances, of losses in nats and of a factor's relative norm: sums over devices are rounded in
another order, and Adam makes a whole step out of a gradient that is only rounding."""

WHOLE = "model all-reduce"
"""Hidden states are summed over ``model``: after attention and after the feed-forward part, forward
and backward (4, in the loops over layers), after the embedding, in the head, and for norms."""

MESHES = {
    "seed=8": {},
    "seed=4,data=2": {"data all-reduce": 1},
    "seed=4,model=2": {WHOLE: 9},
    "seed=2,data=4": {"data all-reduce": 1},
    "seed=2,data=2,model=2": {"data all-reduce": 1, WHOLE: 10},
    "seed=2,model=4": {WHOLE: 9},
    "data=8": {"data all-reduce": 1},
    "data=4,model=2": {"data all-reduce": 1, WHOLE: 10},
    "data=2,model=4": {"data all-reduce": 1, WHOLE: 10},
    "model=8": {WHOLE: 12, "model all-gather": 8},
}
"""Every way to deal out eight devices, and all that they say in one step: gradients are summed over
``data`` once, after all layers; over ``seed`` nothing is said at all. Four key heads cannot
be dealt out to eight devices, so there each layer's queries are brought together."""


FSDP = ("data=8,fsdp", "seed=2,data=2,model=2,fsdp")

OTHERWISE = {
    "seeds one after the other": ("seed=2,data=2,model=2", {"seeds_per_pass": 4}),
    "micro-batches": ("seed=2,data=2,model=2", {"micro_batches": 2}),
    "DoRA": ("seed=2,data=2,model=2", {"method": "dora"}),
    "full fine-tuning": ("seed=2,data=2,model=2", {"method": "full", "seeds": (1, 2), "rank": 8}),
    "ends": ("data=4,model=2", {"targets": ("all-linear", "embed_tokens", "lm_head")}),
    "dropout": ("seed=8", {"dropout": 0.2}),
}
"""Dropout is drawn for each part of the examples, so it is the same where none are dealt out."""


@pytest.fixture(scope="module")
def trained() -> dict[str, dict]:
    """What comes out of every mesh, by its name or by what is otherwise."""
    runs = {mesh: (mesh, {}) for mesh in (*MESHES, *FSDP)} | OTHERWISE
    printed = run_on_devices("tests.parallel.every_mesh", *map(json.dumps, runs.values()))
    return dict(zip(runs, map(json.loads, printed.splitlines()), strict=True))


@pytest.mark.parametrize("run", [*MESHES, *FSDP, *OTHERWISE])
def test_every_mesh_gives_the_losses_and_adapters_of_one_device(trained, run):
    assert trained[run]["losses"] < LOSSES
    assert trained[run]["heldout"] < LOSSES
    assert trained[run]["adapters"] < ADAPTERS


@pytest.mark.parametrize("mesh", MESHES)
def test_devices_speak_only_of_what_the_layout_needs(trained, mesh):
    assert trained[mesh]["collectives"] == MESHES[mesh]


@pytest.mark.parametrize("mesh", FSDP)
def test_base_that_is_divided_over_data_too_is_gathered_layer_by_layer(trained, mesh):
    spoken = trained[mesh]["collectives"]
    assert not any("seed" in one for one in spoken)
    # Seven kernels, in the forward and in the backward loop, and the embedding.
    assert sum(count for one, count in spoken.items() if "all-gather" in one) >= 14


def test_groups_are_read_in_every_way_in_which_they_are_written():
    shape = MeshShape(seed=2, data=2, model=2)
    for groups, axes in {
        "replica_groups=mesh['a'=2,'b'=2,'c'=2] {'b'}": ["data"],
        "replica_groups=mesh['a'=2,'b'=4], device_ids=([2,2,2]T(1,0,2)) {'b'}": ["seed", "model"],
        "replica_groups=[4,2]<=[8]": ["model"],
        "replica_groups=[4,2]<=[2,2,2]T(2,1,0)": ["seed"],
        "replica_groups={{0,4},{1,5},{2,6},{3,7}}": ["seed"],
        "replica_groups={{0,1,2,3},{4,5,6,7}}": ["data", "model"],
        "source_target_pairs={{0,2},{2,0}}": ["data"],
    }.items():
        assert spoken_along(f" all-reduce(%x), {groups}, to_apply=%add", shape) == axes, groups


def test_mesh_is_written_as_it_is_read():
    shape = MeshShape(seed=2, data=4, fsdp=True)
    assert parse_mesh(str(shape)) == shape
    assert parse_mesh("data=8") == MeshShape(data=8)


@pytest.mark.parametrize("text", ["seed", "seed=two", "seed=2,seed=4", "rows=2", "seed=-1"])
def test_what_is_no_mesh_is_said(text):
    with pytest.raises(UserError, match="is not understood"):
        parse_mesh(text)
    with pytest.raises(UserError, match="at least 1"):
        parse_mesh("seed=0")


def test_mesh_of_other_devices_seeds_or_examples_is_refused():
    with pytest.raises(UserError, match=r"takes 3 devices, and there are 1"):
        make_mesh(MeshShape(seed=3), jax.devices()[:1])
    with pytest.raises(UserError, match="3 seeds cannot be dealt out to 2 equal parts"):
        check_divides(MeshShape(seed=2), seeds=3, examples=8)
    with pytest.raises(UserError, match="6 examples at once cannot be dealt out to the 4 devices"):
        check_divides(MeshShape(data=4), seeds=3, examples=6)


def test_seeds_are_dealt_out_first():
    assert default_mesh(8, 4, 8) == MeshShape(seed=8)
    assert default_mesh(3, 8, 8) == MeshShape(data=8)
    assert default_mesh(6, 6, 8) == MeshShape(seed=2, data=2, model=2)
