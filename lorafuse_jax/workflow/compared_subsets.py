"""The fused adapters of every subset of a run's seeds, to be compared by how many were fused."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp

from lorafuse_jax import memory
from lorafuse_jax.formats import read_provenance
from lorafuse_jax.fusion import Operator, get_operator, is_operator
from lorafuse_jax.landscape.points import Subset, subset_name, subsets_of
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.compared import Member
from lorafuse_jax.workflow.landscape_fused import default_operators, fuser
from lorafuse_jax.workflow.members import members_of_run
from lorafuse_jax.workflow.progress import console

MOST = 20
"""Subsets of one size; beyond, so many are drawn."""


def subset_members(run: RunFolder, model: Model, names: Sequence[str]) -> list[Member]:
    """Fused adapters of all subsets of two seeds and more, by operators with their defaults.

    That of all seeds is left out where the run has it among its fused ones.

    Raises:
        UserError: an operator that is not known or needs data, seeds that cannot be fused, or more
            adapters than memory holds.
    """
    operators = default_operators(names)
    if not operators:
        return []
    members, seeds = members_of_run(run), run.trained_seeds()
    made, needed = [], 0
    for op in operators:
        fuse = fuser(op, members, model)
        for subsets in _by_size(op, len(seeds), without_all=fused_of_all(run, op) is not None):
            needed += len(subsets) * _bytes_of(jax.eval_shape(fuse, jnp.array(subsets[0])))
            made += [(fuse, subset, subset_name(op.name, subset, seeds)) for subset in subsets]
    _check_memory(needed, len(made))
    return [Member(name, "subset", fuse(jnp.array(subset))) for fuse, subset, name in made]


def _by_size(op: Operator, seeds: int, *, without_all: bool) -> Iterator[list[Subset]]:
    """Subsets of two seeds and more that the operator takes; says what was drawn."""
    largest = min(op.max_members or seeds, seeds - without_all)
    for size in range(2, largest + 1):
        subsets, count = subsets_of(seeds, size, MOST), math.comb(seeds, size)
        if len(subsets) < count:
            console.print(f"{op.name}: {len(subsets)} of {count} subsets of {size} seeds, drawn")
        yield subsets


def fused_of_all(run: RunFolder, op: Operator) -> str | None:
    """The run's own fused adapter that this operator made of all seeds, with its defaults."""
    plain = json.loads(json.dumps(op.resolve({}), default=str))
    for name in run.fused_names():
        made = read_provenance(run.fused_path(name))
        if (
            (made.get("operator"), made.get("hyperparameters")) == (op.name, plain)
            and made.get("rank") is None
            and made.get("weights") is None
            and len(made.get("members", ())) == len(run.trained_seeds())
        ):
            return name
    return None


def fused_of_each(run: RunFolder, operators: Iterable[str]) -> dict[str, str]:
    """Operator -> ``fused_of_all``, where there is one; other names have none."""
    known = [name for name in operators if is_operator(name)]
    found = {name: fused_of_all(run, get_operator(name)) for name in known}
    return {operator: name for operator, name in found.items() if name is not None}


def _bytes_of(adapter: object) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(adapter))


def _check_memory(needed: int, count: int) -> None:
    have = memory.usable_bytes()
    if have is not None and 2 * needed > have:  # once as they are made, once in the bank
        raise UserError(
            f"the fused adapters of {count} subsets need {2 * needed / 2**30:.1f} GiB, and "
            f"{have / 2**30:.1f} GiB may be taken; name one operator at a time, and none with a "
            "dense result"
        )
