"""A group's seeds, ready to be fused in memory by any row's settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from experiments.areas.area import BEST_MEMBER
from lorafuse_jax.formats.members import Members
from lorafuse_jax.fusion import get_operator
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.landscape_fused import KEY_SEED
from lorafuse_jax.workflow.members import base_of, best_seed, members_of_run


@dataclass(frozen=True)
class GroupMembers:
    """One group.

    Attributes:
        run: its run.
        members: its seeds.
        best: number of the one that is best on validation.
    """

    run: RunFolder
    members: Members
    best: int

    def settled(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with the best member's number in its place."""
        return {k: self.best if value == BEST_MEMBER else value for k, value in settings.items()}

    def fused(self, operator: str, settings: Mapping[str, Any], model: Model) -> Adapter:
        """As ``lorafuse fuse`` makes it, with the decoder's module paths."""
        op, settled = get_operator(operator), self.settled(settings)
        numbers = {k: v for k, v in settled.items() if k in op.numbers and isinstance(v, float)}
        choices = tuple(sorted((k, v) for k, v in settled.items() if k not in numbers))
        key = jax.random.key(KEY_SEED) if op.stochastic else None
        traced = {name: jnp.asarray(value) for name, value in numbers.items()}
        return for_model(_program(operator, choices)(self.members.stacked, key, traced), model)


@lru_cache(None)
def _program(operator: str, choices: tuple[tuple[str, Any], ...]) -> Any:
    """One for all numbers, and for all groups."""
    op = get_operator(operator)

    def run(stacked: Adapter, key: Any, numbers: Mapping[str, jax.Array]) -> Adapter:
        settings: dict[str, Any] = {**dict(choices), **numbers}
        return op(stacked, key=key, **settings)

    return jax.jit(run)


def load_group(run: RunFolder) -> GroupMembers:
    """A group's seeds.

    Raises:
        UserError: they are not trained yet.
    """
    best = run.trained_seeds().index(best_seed(run))
    return GroupMembers(run, members_of_run(run), best)


def load_base(run: RunFolder) -> Model:
    """The model that all groups are over."""
    return base_of(run)
