"""The models of a run that answer the same questions."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from lorafuse_jax.evaluation.scores import Kind
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.inputs import load_any_model
from lorafuse_jax.workflow.members import base_of, load_update, members_trained
from lorafuse_jax.workflow.method_full import is_whole_model
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement


@dataclass(frozen=True)
class Member:
    """One model of the comparison.

    Attributes:
        name: as in tables.
        kind: what it is.
        adapter: what it adds to the base.
        weights: the folder of its own weights, where it is no adapter of the base.
    """

    name: str
    kind: Kind
    adapter: Adapter
    weights: Path | None = None


def load_evaluated(run: RunFolder, placement: Placement = ONE_DEVICE) -> tuple[Model, list[Member]]:
    """The base model of a run, and all that is compared over it.

    Raises:
        UserError: the model is not what it was, or an adapter does not fit it.
    """
    model = base_of(run, placement)
    return model, load_comparison(run, model)


def load_comparison(run: RunFolder, model: Model) -> list[Member]:
    """The base model, every seed and every fused adapter of a run."""
    members = [Member("base", "base", {})]
    for seed in members_trained(run):
        path, name = run.adapter_path(seed), f"seed-{seed}"
        if is_whole_model(path):
            members.append(Member(name, "seed", {}, path))
        else:
            members.append(Member(name, "seed", load_update(path, model)))
    for name in run.fused_names():
        members.append(Member(name, "fused", load_update(run.fused_path(name), model)))
    return members


def by_weights(
    model: Model, members: list[Member], placement: Placement = ONE_DEVICE
) -> Iterator[tuple[Model, list[Member]]]:
    """All that are over the base together; those with weights of their own one after the other."""
    yield model, [member for member in members if member.weights is None]
    for member in members:
        if member.weights is not None:
            yield load_any_model(str(member.weights), placement=placement), [member]


def lanes_for(members: list[Member], rows: int) -> int:
    """Rows of each member that are decoded at once."""
    return max(1, rows // len(members))


def hash_of_update(adapter: Adapter) -> str:
    """sha256 of what an adapter adds."""
    digest = sha256()
    for module, update in sorted(adapter.items()):
        digest.update(module.encode())
        for leaf in update:
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
