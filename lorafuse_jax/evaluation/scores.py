"""The matrix that all comparisons are made of: models x examples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

Kind = Literal["base", "seed", "fused", "ensemble", "control", "subset"]
KINDS: tuple[Kind, ...] = ("base", "seed", "fused", "ensemble", "control", "subset")
"""``ensemble``: all seeds together. ``control``: from another run. ``subset``: fused from some of
the seeds, described by their number and not tested."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One benchmark's results.

    Attributes:
        task: as in tables: ``gsm8k@metamath``, ``my-data/test``.
        models: in the order of ``KINDS``.
        kinds: of each.
        ids: of the examples.
        groups: of each example; "" is none.
        values: by metric [models, E], in [0, 1]; the first is the one compared.
        log_likelihood: of the reference answer [models, E], nats a token; None where nothing of
            the kind was asked.
        answers: [models][E], equal texts for equal answers; None is no answer.
        references: [E], the right answer as text.
        faults: [models][E], what went wrong while scoring; None mostly.
    """

    task: str
    models: list[str]
    kinds: list[Kind]
    ids: list[str]
    groups: list[str]
    values: Mapping[str, Float[np.ndarray, "models E"]]
    log_likelihood: Float[np.ndarray, "models E"] | None
    answers: list[list[str | None]]
    references: list[str]
    faults: list[list[str | None]]

    @property
    def metric(self) -> str:
        """The name of the one that is compared."""
        return next(iter(self.values))

    @property
    def primary(self) -> Float[np.ndarray, "models E"]:
        """The values that are compared."""
        return self.values[self.metric]

    def rows_of(self, kind: Kind) -> list[int]:
        """The numbers of the models of one kind."""
        return [number for number, other in enumerate(self.kinds) if other == kind]

    def without_subsets(self) -> "Scores":
        """The same without the fused models of some of the seeds."""
        kept = [number for number, kind in enumerate(self.kinds) if kind != "subset"]
        likelihood = self.log_likelihood
        return replace(
            self,
            models=[self.models[number] for number in kept],
            kinds=[self.kinds[number] for number in kept],
            values={name: values[kept] for name, values in self.values.items()},
            log_likelihood=None if likelihood is None else likelihood[kept],
            answers=[self.answers[number] for number in kept],
            faults=[self.faults[number] for number in kept],
        )
