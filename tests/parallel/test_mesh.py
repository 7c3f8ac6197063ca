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
from tests.parallel.given import run_on_devices

LOSSES, ADAPTERS = 1e-5, 1e-4
"""Tolerances, of losses in nats and of a factor's relative norm: sums over devices are rounded in
another order."""

ONCE = {"data all-reduce": 1}
"""Gradients are summed over ``data`` after all layers, once a step."""

WHOLE = 13
"""Of two layers: each sums hidden states over ``model`` after attention and after the feed-forward
part, forward and backward (8); once after the embedding, and four times in the head."""

MESHES = {
    "seed=8": {},
    "seed=4,data=2": ONCE,
    "seed=4,model=2": {"model all-reduce": WHOLE},
    "seed=2,data=4": ONCE,
    "seed=2,data=2,model=2": ONCE | {"model all-reduce": WHOLE + 1},
    "seed=2,model=4": {"model all-reduce": WHOLE},
    "data=8": ONCE,
    "data=4,model=2": ONCE | {"model all-reduce": WHOLE + 1},
    "data=2,model=4": ONCE | {"model all-reduce": WHOLE + 1},
    "model=8": {"model all-reduce": WHOLE + 5, "model all-gather": 10},
}
"""Every way to deal out eight devices, and all that they say to each other in one step, by axis:
over ``seed`` nothing at all. Four key heads cannot be dealt out to eight devices, so with model=8
queries are brought together and key's gradients summed."""

GATHERED = {"data all-gather": 29}
"""Seven kernels in each of two layers, forward and backward, and the embedding."""

FSDP = {
    "data=8,fsdp": ONCE | GATHERED,
    "seed=2,data=2,model=2,fsdp": ONCE | GATHERED | {"model all-reduce": WHOLE + 1},
}
"""The base is divided over ``data`` too, and each kernel brought together when it is used."""

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


@pytest.mark.parametrize("run", [*MESHES, *FSDP, *OTHERWISE])
def test_devices_share_the_products(trained, run):
    """Narrow products of updates are computed by all of ``model``; a part alone fills no row.

    How many more that makes depends on which products the host's compiler turns into sums (0.16
    here for ``model=4``); whatever axis is not made use of makes it a quarter or more, and for
    ``model=8`` nearly a half.
    """
    assert 1 / 8 <= trained[run]["share"] < (0.3 if run == "model=8" else 0.2)


@pytest.mark.parametrize("mesh", MESHES | FSDP)
def test_devices_speak_only_of_what_the_layout_needs(trained, mesh):
    assert trained[mesh]["collectives"] == (MESHES | FSDP)[mesh]


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
