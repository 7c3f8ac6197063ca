"""What a finished training leaves: PEFT adapters of the seeds, and averages along their way."""

from typing import Any

import jax
import jax.numpy as jnp

from lorafuse_jax.adapter import combine
from lorafuse_jax.models.hub import Model
from lorafuse_jax.parallel import hosts
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.training.step import RUNNING, TrainState
from lorafuse_jax.training.trajectory import Trajectory, of_seed
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.method import Method, save_update
from lorafuse_jax.workflow.progress import console

AVERAGE_SOURCE = "arXiv:2209.14981 (LAWA)"


def write_adapters(
    run: RunFolder,
    state: TrainState,
    trajectory: Trajectory | None,
    *,
    model: Model,
    method: Method,
) -> None:
    """Write what every seed has become, and its average where a trajectory was kept.

    A seed that was frozen goes to ``frozen/seed-K``, where no fusion or evaluation looks for
    members; it gets no average. What is there already is kept.
    """
    config, frozen = run.config(), hosts.fetch(state.frozen_at)
    for k, seed in enumerate(config["seeds"]):
        frozen_at = int(frozen[k])
        trained = hosts.fetch(jax.tree.map(lambda leaf, k=k: leaf[k], state.adapter))
        if not hosts.is_first():
            continue
        trained = jax.tree.map(jnp.asarray, trained)  # on this host's own device
        about: dict[str, Any] = {"seed": seed, "base_fingerprint": model.fingerprint, **config}
        runs = frozen_at == RUNNING
        if not runs:
            about["frozen_at"] = frozen_at
        # Averages first: a run counts as finished when its seeds are there.
        if trajectory is not None and runs:
            average, count = average_along(trajectory, k, method)
            named = about | {"operator": f"mean of the last {count}", "source": AVERAGE_SOURCE}
            average_path = run.fused_path(f"average-seed-{seed}")
            if not average_path.exists():
                save_update(average_path, average, model, named)
        path = run.adapter_path(seed) if runs else run.frozen_path(seed)
        if not path.exists():
            method.save(trained, k, path, about)
        if not runs:
            console.print(
                f"seed {seed} was frozen at step {frozen_at}: what it had learnt before is in "
                f"{path}, and is no member of this run"
            )


def average_along(trajectory: Trajectory, number: int, method: Method) -> tuple[Adapter, int]:
    """The exact mean of one seed's kept deltas (rank M R), and of how many.

    LAWA averages all weights of a trajectory's last checkpoints; over a frozen base that is the
    mean of the deltas ``A_t B_t``. It is not the product of the means of A and of B, which leaves
    out how the two moved together. Departure: the paper's checkpoints are ends of epochs, these are
    the held-out evaluations.
    """
    assert method.update is not None  # TrainConfig refuses averages of others
    kept = jax.vmap(lambda trained: method.update(trained, number))(of_seed(trajectory, number))
    count = next(iter(kept.values()))[0].shape[0]
    return combine(kept, jnp.full(count, 1 / count)), count
