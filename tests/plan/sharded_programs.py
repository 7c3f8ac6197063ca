"""What devices send in programs that say so themselves; run on eight devices, prints JSON."""

import json
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from lorafuse_jax.plan.collectives import sent_bytes
from lorafuse_jax.plan.program import parse

SIZES = {"seed": 2, "data": 2, "model": 2}
ENTRIES, TURNS = 64, 3


def reduced(x):
    return jax.lax.psum(x, "data")


def gathered(x):
    return jax.lax.all_gather(x, ("data", "model"), tiled=True)


def scattered(x):
    return jax.lax.psum_scatter(x, "seed", tiled=True)


def permuted(x):
    return jax.lax.ppermute(x, "model", [(0, 1), (1, 0)])


def exchanged(x):
    return jax.lax.all_to_all(x, "seed", 0, 0, tiled=True)


def looped(x):
    return jax.lax.fori_loop(0, TURNS, lambda _, x: jnp.tanh(jax.lax.psum(x, "model")), x)


def main() -> None:
    """Print kind, axes, bytes and times of each program."""
    auto = (AxisType.Auto,) * len(SIZES)
    mesh = jax.make_mesh(tuple(SIZES.values()), tuple(SIZES), axis_types=auto)
    whole = PartitionSpec()
    shard = partial(jax.shard_map, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
    found = {}
    for function in (reduced, gathered, scattered, permuted, exchanged, looped):
        compiled = jax.jit(shard(function)).lower(jnp.ones(ENTRIES)).compile()
        found[function.__name__] = sent_bytes(parse(compiled.as_text()), SIZES)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
