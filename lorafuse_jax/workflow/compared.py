"""The models of a run that answer the same questions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.evaluation.scores import Kind
from lorafuse_jax.formats.dense import is_dense
from lorafuse_jax.formats.dora import is_dora
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import ENDS, Adapter, DenseDelta, Params
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
        apart: where it is read from when its turn comes, apart from all others: a whole model, or
            an update that is as large as the base. None: it answers with others over one base.
    """

    name: str
    kind: Kind
    adapter: Adapter
    apart: Path | None = None


def load_evaluated(
    run: RunFolder, placement: Placement = ONE_DEVICE, *, dense_apart: bool = False
) -> tuple[Model, list[Member]]:
    """The base model of a run, every seed and every fused adapter.

    Args:
        run: whose.
        placement: of the base.
        dense_apart: updates that are as large as the base are not read yet.

    Raises:
        UserError: the model is not what it was, or an adapter does not fit it.
    """
    model = base_of(run, placement)
    there: list[tuple[str, Kind, Path]] = [
        *((f"seed-{seed}", "seed", run.adapter_path(seed)) for seed in members_trained(run)),
        *((name, "fused", run.fused_path(name)) for name in run.fused_names()),
    ]
    members = [load_member(*one, model, dense_apart=dense_apart) for one in there]
    return model, [Member("base", "base", {}), *members]


def load_member(name: str, kind: Kind, folder: Path, model: Model, *, dense_apart: bool) -> Member:
    """One of them, from an adapter of any kind or a whole model's checkpoint.

    Raises:
        UserError: nothing readable is there, or it does not fit.
    """
    if is_whole_model(folder) or (dense_apart and (is_dense(folder) or is_dora(folder))):
        return Member(name, kind, {}, folder)
    return Member(name, kind, load_update(folder, model))


def by_weights(
    model: Model, members: list[Member], placement: Placement = ONE_DEVICE
) -> Iterator[tuple[Model, list[Member]]]:
    """All that are over the base together; those apart from others one after the other.

    The adapters of one apart are read, but for a whole model, which is a model of its own.
    """
    yield model, [member for member in members if member.apart is None]
    for member in members:
        if member.apart is None:
            continue
        if is_whole_model(member.apart):
            yield load_any_model(str(member.apart), placement=placement), [member]
        else:
            yield model, [_with_update(member, member.apart, model)]


def read_all(members: list[Member], model: Model) -> list[Member]:
    """With the updates of those that are apart, none of which may be a whole model."""
    return [m if m.apart is None else _with_update(m, m.apart, model) for m in members]


def _with_update(member: Member, folder: Path, model: Model) -> Member:
    return replace(member, adapter=load_update(folder, model), apart=None)


def over_base(model: Model, members: list[Member]) -> tuple[Model, list[Adapter]]:
    """The base, and what each member adds to it.

    A dense update of one member alone is added to the base, where that is float32 and on one
    device: it costs nothing then, and rounding is that of any sum.
    """
    adapters = [member.adapter for member in members]
    if len(adapters) == 1 and _can_merge(adapters[0], model.params):
        return replace(model, params=merge_into(model.params, adapters[0])), [{}]
    return model, adapters


def _can_merge(adapter: Adapter, params: Params) -> bool:
    exact = all(
        leaf.dtype == jnp.float32 and leaf.is_fully_addressable and len(leaf.devices()) == 1
        for leaf in jax.tree.leaves(params)
    )
    dense = [isinstance(update, DenseDelta) for update in adapter.values()]
    return exact and any(dense) and not any(end in adapter for end in ENDS)


def lanes_for(members: list[Member], rows: int) -> int:
    """Rows of each member that are decoded at once."""
    return max(1, rows // len(members))


def weights_of(member: Member, model: Model) -> str:
    """The beginning of a hash of what a member adds to the base, or of its own weights.

    Members of one base with equal ones give the same answers.
    """
    return (model.fingerprint if member.apart else hash_of_update(member.adapter))[:16]


def hash_of_update(adapter: Adapter) -> str:
    """sha256 of what an adapter adds."""
    digest = sha256()
    for module, update in sorted(adapter.items()):
        digest.update(module.encode())
        for leaf in update:
            digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
