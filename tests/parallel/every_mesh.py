"""Trains on meshes of eight devices and on one device, and prints how far they are apart.

And what devices say to each other, and which share of all products one of them computes.
"""

import json
import sys
from functools import cache

import jax
import numpy as np

from lorafuse_jax.parallel.mesh import AXES, parse_mesh
from lorafuse_jax.plan.collectives import sent_bytes
from lorafuse_jax.plan.products import product_flops
from lorafuse_jax.plan.program import parse
from tests.parallel.given import train_steps, trainer_on


def main() -> None:
    """Arguments, each as JSON: a mesh as the command line takes it, and settings of the run."""
    alone = cache(lambda settings: train_steps(trainer_on(None, **_read(settings))))
    for argument in sys.argv[1:]:
        mesh, settings = json.loads(argument)
        shape = parse_mesh(mesh)
        got = train_steps(trainer_on(shape, **_read(json.dumps(settings))))
        axes = {axis: getattr(shape, axis) for axis in AXES}
        program, want = parse(got[-1].text()), alone(json.dumps(settings))
        sent = {f"{one.axes} {one.kind}": one.times for one in sent_bytes(program, axes)}
        share = product_flops(program) / product_flops(parse(want[-1].text()))
        print(json.dumps({**apart(got, want), "collectives": sent, "share": share}), flush=True)


def _read(settings: str) -> dict:
    values = json.loads(settings)
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def apart(got: tuple, want: tuple) -> dict[str, float]:
    """Largest differences: of losses in nats, of an adapter's factor relative to its norm."""
    pairs = zip(jax.tree.leaves(got[2]), jax.tree.leaves(want[2]), strict=True)
    return {
        "losses": float(np.abs(got[0] - want[0]).max()),
        "heldout": float(np.abs(got[1] - want[1]).max()),
        "adapters": float(max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs)),
    }


if __name__ == "__main__":
    main()
