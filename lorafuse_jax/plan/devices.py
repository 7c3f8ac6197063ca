"""The devices of a machine that is not at hand, so that programs can be compiled for it."""

import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from lorafuse_jax.plan.machines import Machine
from lorafuse_jax.types import UserError

ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What libtpu is told where there is no TPU, so that it asks nobody for one, and waits for none.

Compiling takes no chip, so several processes may do it at once.
"""


def devices_of(machine: Machine) -> Sequence[jax.Device]:
    """To compile for; nothing can be put on those of a TPU.

    Raises:
        UserError: libtpu is not installed, or jax has begun with fewer CPU devices.
    """
    if machine.platform == "cpu":
        have = jax.devices("cpu")
        if len(have) < machine.devices:
            raise UserError(
                f"{machine.name} takes {machine.devices} CPU devices, and jax has begun with "
                f"{len(have)}; set JAX_NUM_CPU_DEVICES={machine.devices}"
            )
        return have[: machine.devices]
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)
    try:
        return topologies.get_topology_desc(str(machine.topology), platform="tpu").devices
    except (RuntimeError, ImportError) as error:
        raise UserError(
            f"programs for {machine.name} are compiled by libtpu, which did not start ({error}); "
            "pip install 'lorafuse-jax[tpu]', or take --estimate"
        ) from error
