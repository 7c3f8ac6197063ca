"""One operator's fused adapters of every subset of the seeds, as cheap as the operator allows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lorafuse_jax.formats.members import Members
from lorafuse_jax.full_rank import as_deltas
from lorafuse_jax.fusion import Operator
from lorafuse_jax.landscape.plan import Plan
from lorafuse_jax.landscape.points import Subset, name_of, subset_name
from lorafuse_jax.mixture import Coefficients, read_coefficients
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.types import Adapter

KEY_SEED = 0
"""Of stochastic operators; as ``lorafuse fuse`` has it."""

SAME = 1e-6
"""Weights that differ by no more are one: what reading them off a float32 adapter gives."""


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
        self._fuse, self._weigh = jax.jit(self._fused), jax.jit(self._weights)
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
        fused = self._fuse(jnp.array(self.adapters[name]))
        return for_model(as_deltas(fused) if self._members.full_rank else fused, self._model)

    def _fused(self, subset: jax.Array) -> Adapter:
        key = jax.random.key(KEY_SEED) if self.op.stochastic else None
        return self.op(_only(self._members.stacked, subset), key=key)

    def _weights(self, subset: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        some, fused = _only(self._members.stacked, subset), self._fused(subset)
        return {module: read_coefficients(fused[module], some[module]) for module in fused}

    def _coefficients(self, subset: Subset) -> Coefficients:
        """Of all members, zero outside the subset."""
        everyone: Coefficients = {}
        for module, (own, _) in self._weigh(jnp.array(subset)).items():
            size = len(self._members.names)
            everyone[module] = jnp.zeros((own.shape[0], size)).at[:, jnp.array(subset)].set(own)
        return for_model(everyone, self._model)


def _only(stacked: Adapter, subset: jax.Array) -> dict[str, Any]:
    return jax.tree.map(lambda leaf: leaf[subset], stacked)


def _plain_name(own: Coefficients, plan: Plan) -> str | None:
    """The name of weights that are the same in all modules and layers; None if they are not."""
    rows = np.concatenate([np.asarray(weights) for weights in own.values()])
    if np.ptp(rows, axis=0).max() > SAME:
        return None
    return name_of(tuple(rows.mean(0).tolist()), plan.seeds)
