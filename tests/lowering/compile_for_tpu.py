"""Compile a train step and a decoding step for a TPU that is not there; for a child process.

libtpu compiles for a topology by name. One line of JSON is printed: program -> what is said of it.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from tests.lowering.programs import Program, decoding, train_step, trainer_for, with_long_rows

TOPOLOGY = "v5e:2x4"


def compiled(program: Program, device: Any) -> jax.stages.Compiled:
    """For this device, which need not exist."""
    place = SingleDeviceSharding(device)

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            return leaf  # of a static argument
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    args = jax.tree.map(placed, program.args)
    return program.fn.trace(*args).lower(lowering_platforms=("tpu",)).compile()


def described(program: jax.stages.Compiled) -> dict[str, float]:
    """FLOPs, bytes, and how often a kernel of Pallas is called."""
    memory = program.memory_analysis()
    return {
        "flops": program.cost_analysis()["flops"],
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "kernels": program.as_text().count('custom_call_target="tpu_custom_call"'),
    }


def main() -> None:
    device = topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices[0]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_for("lora of the ends", jnp.bfloat16, Path(folder))
        programs = {
            "train step": with_long_rows(train_step(trainer)),
            "decoding": decoding(jnp.bfloat16)["go_on"],
        }
    print(json.dumps({name: described(compiled(p, device)) for name, p in programs.items()}))


if __name__ == "__main__":
    main()
