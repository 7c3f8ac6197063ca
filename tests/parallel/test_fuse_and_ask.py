"""Fusing and generating on meshes of eight devices is fusing and generating on one."""

import json

import pytest

from lorafuse_jax.parallel.mesh import parse_mesh
from tests.parallel.given import KV_HEADS, run_on_devices
from tests.parallel.test_mesh import MESHES

FLOAT32 = 1e-5
"""Relative, of a fused delta's norm, and in nats, of the log-probability of a token."""


@pytest.fixture(scope="module")
def found() -> dict[str, dict]:
    printed = run_on_devices("tests.parallel.fused_and_asked", *MESHES)
    return dict(zip(MESHES, map(json.loads, printed.splitlines()), strict=True))


@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_fuses_as_one_device_does(found, mesh):
    assert max(found[mesh]["fused"].values()) < FLOAT32


@pytest.mark.parametrize("mesh", MESHES)
def test_rows_and_heads_of_the_cache_are_dealt_out(found, mesh):
    shape = parse_mesh(mesh)
    heads = 1 if shape.model > KV_HEADS else shape.model
    assert found[mesh]["held"] == [1 / (shape.seed * shape.data), 1 / heads]


@pytest.mark.parametrize("mesh", MESHES)
def test_every_mesh_answers_as_one_device_does(found, mesh):
    assert found[mesh]["same"]
    assert found[mesh]["log_probs"] < FLOAT32
