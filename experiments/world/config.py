"""How large the controlled world is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.world.conditions import Condition, numbered


@dataclass(frozen=True, kw_only=True)
class World:
    """Sizes and recipes.

    Attributes:
        pretraining: arguments of ``decoder.pretrain``.
        problems: of each task's splits; ``longer`` has three steps.
        recipe: ``TrainConfig`` of the single adapter, but for its learning rate.
        rates: learning rates to choose among, for each recipe that is tuned.
        tuned: recipe -> what it changes; the single adapter's, and the controls'.
        tuning_seeds: of each learning rate.
        choosing: seeds whose groups hyper-parameters are chosen on.
        tested: seeds whose groups are tested.
        counts: seeds of a group, for the curve over N.
        sweeps: condition -> what it changes of the recipe, with ``rate`` as a factor of the chosen
            learning rate.
        swept: seeds of each sweep's condition.
        swept_tasks: tasks that sweeps are run on.
    """

    pretraining: Mapping[str, Any]
    problems: Mapping[str, int]
    recipe: Mapping[str, Any]
    rates: tuple[float, ...]
    tuned: Mapping[str, Mapping[str, Any]]
    tuning_seeds: int
    choosing: int
    tested: int
    counts: tuple[int, ...]
    sweeps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    swept: int = 24
    swept_tasks: tuple[str, ...] = ("words",)

    def main(self) -> Condition:
        """The seeds that everything is measured on; the first ones choose."""
        return Condition("single", numbered(1000, self.choosing + self.tested))

    def control(self, name: str) -> Condition:
        """One adapter a tested group, with seeds of its own."""
        first = 3000 + 1000 * list(self.tuned).index(name)
        return Condition(name, numbered(first, self.tested // 3), self.tuned[name], members=1)

    def sweep(self, name: str) -> Condition:
        """Groups of three under other circumstances."""
        first = 10_000 + 1000 * list(self.sweeps).index(name)
        changes = dict(self.sweeps[name])
        apart = bool(changes.get("shared"))
        return Condition(name, numbered(first, self.swept), changes, apart=apart)


RECIPE = {"rank": 8, "alpha": 16.0, "examples_per_step": 8, "examples": 1600}
TUNED = {
    "single": {},
    "rank n r": {"rank": 24, "alpha": 48.0},
    "n times longer": {"examples": 4800},
    "full fine-tuning": {"method": "full"},
}
LAPTOP = World(
    pretraining={"examples": 250_000, "at_once": 128, "learning_rate": 1e-3, "seed": 1},
    problems={"train": 400, "validation": 300, "test": 500, "longer": 250},
    recipe=RECIPE,
    rates=(3e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    tuned=TUNED,
    tuning_seeds=3,
    choosing=24,
    tested=72,
    counts=(2, 4, 6, 8, 12, 16),
    sweeps={
        "initialisation shared": {"shared": ("init",)},
        "order shared": {"shared": ("order",)},
        "rank 1": {"rank": 1, "alpha": 2.0},
        "rank 32": {"rank": 32, "alpha": 64.0},
        "rate x 1/4": {"rate": 0.25},
        "rate x 4": {"rate": 4.0},
        "length x 1/4": {"examples": 400},
        "length x 4": {"examples": 6400},
        "half of the data each": {"subset": 0.5},
    },
)
"""What is run: about three hours on two cores."""

SMOKE = World(
    pretraining={"examples": 512, "at_once": 64, "learning_rate": 1e-3, "seed": 1},
    problems={"train": 32, "validation": 12, "test": 12, "longer": 6},
    recipe=RECIPE | {"rank": 2, "alpha": 4.0, "examples": 32},
    rates=(1e-3, 2e-3),
    tuned={
        "single": {},
        "rank n r": {"rank": 6, "alpha": 12.0},
        "n times longer": {"examples": 96},
        "full fine-tuning": {"method": "full"},
    },
    tuning_seeds=1,
    choosing=3,
    tested=6,
    counts=(2, 6),
    sweeps={"initialisation shared": {"shared": ("init",)}, "rate x 4": {"rate": 4.0}},
    swept=6,
)
"""Every step, with nothing to be seen: a minute or two."""

WORLDS = {"laptop": LAPTOP, "smoke": SMOKE}
