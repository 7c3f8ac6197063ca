"""What is trained in the controlled world: one recipe, and what each condition changes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MEMBERS = 3
"""Seeds of a group, as in the paper."""


@dataclass(frozen=True)
class Condition:
    """Seeds trained alike.

    Attributes:
        name: of the run folder.
        seeds: all of them; every ``members`` are a group, in order.
        changes: of the recipe's ``TrainConfig``.
        members: seeds of a group.
        apart: a run for each group, since what its members share must not be shared by all.
    """

    name: str
    seeds: tuple[int, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    members: int = MEMBERS
    apart: bool = False

    @property
    def runs(self) -> dict[str, tuple[int, ...]]:
        """Run folder -> its seeds."""
        if not self.apart:
            return {self.name: self.seeds}
        size = self.members
        groups = [self.seeds[start : start + size] for start in range(0, len(self.seeds), size)]
        return {f"{self.name}-{number + 1}": group for number, group in enumerate(groups)}


def numbered(first: int, count: int) -> tuple[int, ...]:
    """Seeds from ``first`` on."""
    return tuple(range(first, first + count))
