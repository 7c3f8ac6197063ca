"""One operator's fused adapters of every subset of the seeds, as cheap as the operator allows."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.formats.members import Members
from lorafuse_jax.full_rank import as_deltas
from lorafuse_jax.fusion import Operator, get_operator
from lorafuse_jax.landscape.plan import Plan
from lorafuse_jax.landscape.points import Subset, name_of, subset_name
from lorafuse_jax.mixture import Coefficients, read_coefficients
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.types import Adapter, UserError

KEY_SEED = 0
"""Of stochastic operators; as ``lorafuse fuse`` has it."""

SAME = 1e-6
"""Weights that differ by no more are one: what reading them off a float32 adapter gives."""


def default_operators(names: Sequence[str]) -> list[Operator]:
    """Operators that fuse with default settings, each once.

    Raises:
        UserError: there is no such operator, or it needs data.
    """
    operators = {op.name: op for op in map(get_operator, names)}
    for op in operators.values():
        if op.statistic is not None:
            raise UserError(
                f"{op.name} needs {op.statistic}, which come from a model and data; leave it out"
            )
    return list(operators.values())


def fuser(op: Operator, members: Members, model: Model) -> Callable[[jax.Array], Adapter]:
    """Numbers of members -> their fused adapter, with the decoder's module paths."""

    @jax.jit
    def fuse(subset: jax.Array) -> Adapter:
        fused = _fuse(op, members, subset)
        return for_model(as_deltas(fused) if members.full_rank else fused, model)

    return fuse


class FusedSubsets:
    """The fused adapters of all subsets: points among the members if they are, or else adapters.

    Attributes:
        op: the operator.
        points: subset -> name of its point.
        adapters: of the names, those that are no weighted sums of members; large subsets first.
    """

    def __init__(
        self,
        op: Operator,
        members: Members,
        plan: Plan,
        points: dict[str, Coefficients],
        model: Model,
    ) -> None:
        """Name what is to be measured; weighted sums that are new are added to ``points``.

        Args:
            op: with its default settings.
            members: all seeds.
            plan: gives the subsets; those too large for the operator are left out.
            points: name -> coefficients.
            model: for module paths.
        """
        self.op, self._members, self._model = op, members, model
        self.points: dict[Subset, str] = {}
        self.adapters: dict[str, Subset] = {}
        self._fuse, self._weigh = fuser(op, members, model), jax.jit(self._weights)
        most = op.max_members or len(plan.seeds)
        subsets = [subset for subset in reversed(plan.subsets) if len(subset) <= most]
        is_sum = all(bool(ok) for _, ok in self._weigh(jnp.array(subsets[0])).values())
        for subset in subsets:
            name = subset_name(op.name, subset, plan.seeds)
            if len(subset) == 1 and op.identity_for_one:
                name = plan.singles[subset[0]]
            elif is_sum:
                own = self._coefficients(subset)
                name = _plain_name(own, plan) or name
                points.setdefault(name, own)
            else:
                self.adapters[name] = subset
            self.points[subset] = name

    def adapter(self, name: str) -> Adapter:
        """The fused adapter of that name, with the decoder's module paths."""
        return self._fuse(jnp.array(self.adapters[name]))

    def _weights(self, subset: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        some, fused = _only(self._members, subset), _fuse(self.op, self._members, subset)
        return {module: read_coefficients(fused[module], some[module]) for module in fused}

    def _coefficients(self, subset: Subset) -> Coefficients:
        """Of all members, zero outside the subset."""
        everyone: Coefficients = {}
        for module, (own, _) in self._weigh(jnp.array(subset)).items():
            size = len(self._members.names)
            everyone[module] = jnp.zeros((own.shape[0], size)).at[:, jnp.array(subset)].set(own)
        return for_model(everyone, self._model)


def _fuse(op: Operator, members: Members, subset: jax.Array) -> Adapter:
    key = jax.random.key(KEY_SEED) if op.stochastic else None
    return op(_only(members, subset), key=key)


def _only(members: Members, subset: jax.Array) -> dict[str, Any]:
    return jax.tree.map(lambda leaf: leaf[subset], members.stacked)


def _plain_name(own: Coefficients, plan: Plan) -> str | None:
    """The name of weights that are the same in all modules and layers; None if they are not."""
    rows = np.concatenate([np.asarray(weights) for weights in own.values()])
    if np.ptp(rows, axis=0).max() > SAME:
        return None
    return name_of(tuple(rows.mean(0).tolist()), plan.seeds)
