"""Memory that `lorafuse plan` predicts on CPU, against what the same steps take when they run.

`.venv/bin/python experiments/bench/plan_memory.py`: shapes of SmolLM2-135M with random weights; of
each case the plan in one child process, and two real steps in another, whose peak is the system's
account of it (ru_maxrss). A case is SEEDS,BATCH,LENGTH,REMAT,SEEDS_PER_PASS,MACHINE,MESH.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from typing import Any

CASES = (
    "1,4,256,projections,1,cpu-1,seed=1",
    "3,4,256,projections,3,cpu-1,seed=1",
    "3,4,256,layers,3,cpu-1,seed=1",
    "3,4,256,nothing,3,cpu-1,seed=1",
    "3,2,1024,projections,1,cpu-1,seed=1",
    "8,2,128,projections,8,cpu-1,seed=1",
    "8,8,64,projections,8,cpu-8,seed=8",
    "8,8,64,projections,8,cpu-8,data=8;fsdp",
)
MODEL = "smollm2-135m"


def command(case: str):
    """The plan of a case."""
    from lorafuse_jax.workflow.plan_command import PlanCommand

    seeds, batch, length, remat, at_once, machine, mesh = case.split(",", 6)
    return PlanCommand(
        model=MODEL,
        machine=machine,
        seeds=int(seeds),
        rank=8,
        batch=int(batch),
        length=int(length),
        remat=remat,  # pyrefly: ignore
        seeds_per_pass=int(at_once),
        micro_batches=1,
        mesh=mesh.replace(";", ","),
    )


def predict(case: str) -> dict:
    """Bytes of all devices, and of the program alone."""
    plan = command(case).plan()
    assert plan.demand is not None
    devices = plan.cut.mesh.devices
    return {"predicted": plan.peak * devices, "program": plan.demand.peak * devices}


def measure(case: str) -> dict:
    """Two real steps."""
    import jax
    import numpy as np

    from lorafuse_jax.parallel.mesh import make_mesh
    from lorafuse_jax.plan.devices import devices_of
    from lorafuse_jax.plan.guess import Cut
    from lorafuse_jax.workflow.placement import Placement
    from lorafuse_jax.workflow.plan_command import begin_with
    from lorafuse_jax.workflow.shaped_step import shaped_step

    planned = command(case)
    request = planned.request()
    begin_with(request.machine)
    assert request.mesh is not None and request.remat is not None
    cut = Cut(
        mesh=request.mesh,
        remat=request.remat,
        seeds_per_pass=int(planned.seeds_per_pass or 1),
        micro_batches=1,
    )
    placement = Placement(make_mesh(cut.mesh, devices_of(request.machine)), cut.mesh.fsdp)
    model = request.shaped_model(placement)
    shaped = shaped_step(
        request.train_config(cut), model, placement, request.length, request.answer
    )
    rng = np.random.default_rng(0)

    def real(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.device_put(jax.random.split(jax.random.key(0), leaf.shape), leaf.sharding)

        def part(index):
            sizes = [len(range(*one.indices(n))) for one, n in zip(index, leaf.shape, strict=True)]
            if leaf.dtype != np.float32:
                return np.zeros(sizes, leaf.dtype)
            return 0.01 * np.abs(rng.standard_normal(sizes, np.float32))

        return jax.make_array_from_callback(leaf.shape, leaf.sharding, part)

    state, base, batch, member = jax.tree.map(real, shaped.arguments)
    with placement.active():
        for _ in range(2):
            state, _ = jax.block_until_ready(shaped.step(state, base, batch, member))
    return {"measured": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def child(worker: str, case: str) -> dict:
    """What a worker prints last."""
    result = subprocess.run(
        [sys.executable, __file__, "--worker", worker, case],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """All cases, or one worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--worker", choices=("predict", "measure"), help="for child processes")
    options = parser.parse_args()
    if options.worker:
        worker = {"predict": predict, "measure": measure}[options.worker]
        print(json.dumps(worker(options.cases[0])))
        return
    found = []
    for case in options.cases:
        one: dict[str, Any] = {"case": case, **child("predict", case), **child("measure", case)}
        one["ratio"] = one["predicted"] / one["measured"]
        found.append(one)
        gb = {key: f"{one[key] / 1e9:.2f}" for key in ("predicted", "measured", "program")}
        print(f"{case:44} {gb} predicted / measured {one['ratio']:.3f}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
