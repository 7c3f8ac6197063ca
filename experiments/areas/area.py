"""What an experiment of one area is: data, seeds, controls, fused rows, tests, amounts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, TypeAlias

from lorafuse_jax.fusion import get_operator
from lorafuse_jax.run_folder import check_name
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.train_config import NOT_OF, TrainConfig

Group: TypeAlias = tuple[int, ...]

BEST_MEMBER = "best member"
"""As a setting's value: the number of the member that is best on validation, in each group."""

ON_VALIDATION = ("greedy_soup", "learned_weights")
"""Beside the names of ``fusion.OPERATORS``: what is fused by looking at validation losses."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fused adapter of every group.

    Attributes:
        name: in tables, and of its folder.
        operator: that ``fusion.get_operator`` knows, or one of ``ON_VALIDATION``.
        settings: hyper-parameters that are not the defaults; ``BEST_MEMBER`` may be a value.
        grid: hyper-parameter -> values. The combination, or the defaults with ``settings``, that
            has the lowest validation loss is taken, one for all groups. Empty: nothing is chosen.
    """

    name: str
    operator: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def needs_data(self) -> bool:
        """Whether it is made with the model and examples."""
        if self.operator in ON_VALIDATION:
            return True
        return get_operator(self.operator).statistic is not None

    def points(self) -> Iterator[dict[str, Any]]:
        """Settings that are compared, the row's own first; each once."""
        seen = []
        combinations = product(*self.grid.values())
        for values in ({}, *(dict(zip(self.grid, one, strict=True)) for one in combinations)):
            point = {**self.settings, **values}
            whole = point if self.operator in ON_VALIDATION else self._resolved(point)
            if whole not in seen:
                seen.append(whole)
                yield point

    def _resolved(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """With all defaults; a member's number is checked where it is known."""
        known = {k: 0 if value == BEST_MEMBER else value for k, value in point.items()}
        return get_operator(self.operator).resolve(known)


@dataclass(frozen=True, kw_only=True)
class Control:
    """Another way to train, that is compared with fusion.

    Attributes:
        name: in tables, and of its run's folder.
        changes: fields of ``TrainConfig`` that are not as for the single adapter.
        learning_rates: of which the best on validation is taken; () takes the single adapter's.
        rates_at_once: that are trained in one run, for less memory; None is all.
        seeds: one adapter a group, of the group's first seed; or one a seed of each group, whose
            mean is the group's value.
    """

    name: str
    changes: Mapping[str, Any]
    learning_rates: tuple[float, ...] = ()
    rates_at_once: int | None = None
    seeds: Literal["first", "all"] = "first"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One larger group, to see what more seeds bring.

    Of each size the seeds are dealt out to as many disjoint subsets as there can be.

    Attributes:
        seeds: of the group; in no other one.
        sizes: numbers of seeds to fuse, from 2 to all.
        rows: names of ``Area.rows`` that are fused of these subsets, with what was chosen.
        tests: of ``Area.tests``, those that are asked.
    """

    seeds: Group
    sizes: tuple[int, ...]
    rows: tuple[str, ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Area:
    """An experiment.

    Attributes:
        name: of the results' files.
        single: how one adapter is trained; ``seeds`` and ``learning_rate`` in it mean nothing.
        learning_rates: for the single adapter; the best on validation is taken.
        tuning_seed: trained with every learning rate; in no group.
        groups: two or more disjoint ones, of as many seeds each; every group is trained and fused
            by itself.
        controls: what else is trained.
        rows: what is fused.
        tests: ``lorafuse evaluate``'s name -> the first so many examples; None is all.
        validation_examples: of the validation split, the first so many, that settings are chosen
            by; learning rates are chosen by the first ``single.heldout_examples``.
        choose_on: settings are chosen by the mean loss over all groups, or by the first group's.
        learning_steps: of learning weights (``learned_weights``).
        statistic_examples: training examples that Fisher information and Gram matrices are of.
        curve: a larger group; None for none.
        ensemble: whether the mean of the members' log-probabilities answers as well.
        contrasts: pairs of rows whose difference is tested; of others, these are left out.
        rows_at_once: answers that are decoded together.
    """

    name: str
    single: TrainConfig
    learning_rates: tuple[float, ...]
    tuning_seed: int
    groups: tuple[Group, ...]
    controls: tuple[Control, ...]
    rows: tuple[Row, ...]
    tests: Mapping[str, int | None]
    validation_examples: int = 64
    choose_on: Literal["all", "first"] = "all"
    learning_steps: int = 30
    statistic_examples: int = 16
    curve: Curve | None = None
    ensemble: bool = True
    contrasts: tuple[tuple[str, str], ...] = ()
    rows_at_once: int = 192

    def __post_init__(self) -> None:
        self._check_seeds()
        self._check_names()
        self._check_settings()

    @property
    def curve_groups(self) -> tuple[Group, ...]:
        """All groups, the larger one last."""
        return self.groups if self.curve is None else (*self.groups, self.curve.seeds)

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def control_seeds(self, control: Control) -> tuple[Group, ...]:
        """Of each group the seeds that a control is trained with."""
        size = 1 if control.seeds == "first" else None
        return tuple(group[:size] for group in self.groups)

    def config(self, changes: Mapping[str, Any], seeds: Group, rate: Any) -> TrainConfig:
        """Of a run: the single adapter's, changed.

        What says nothing under another method, such as the rank in full fine-tuning, is left out.

        Raises:
            UserError: a field that does not exist, or values that do not go together.
        """
        fields = TrainConfig.__dataclass_fields__
        unknown = sorted(set(changes) - set(fields))
        if unknown:
            raise UserError(f"{self.name}: a control changes {unknown[0]}, which is no setting")
        idle = NOT_OF[changes.get("method", self.single.method)]
        own: dict[str, Any] = {name: fields[name].default for name in idle}
        own |= {**changes, "seeds": seeds, "learning_rate": rate}
        return replace(self.single, **own)

    def _check_seeds(self) -> None:
        if len(self.groups) < 2 or len({len(group) for group in self.groups}) > 1:
            raise UserError(f"{self.name}: two groups or more are needed, of as many seeds each")
        if len(self.groups[0]) < 2:
            raise UserError(f"{self.name}: a group is two seeds or more, there is nothing to fuse")
        seeds = [self.tuning_seed, *(seed for group in self.curve_groups for seed in group)]
        for seed in seeds:
            if seeds.count(seed) > 1:
                raise UserError(
                    f"{self.name}: seed {seed} is used twice; groups, the curve and the tuning "
                    "must have different ones, or they are not independent"
                )
        if self.curve is not None:
            for size in self.curve.sizes:
                if not 2 <= size <= len(self.curve.seeds):
                    raise UserError(
                        f"{self.name}: the curve cannot fuse {size} of {len(self.curve.seeds)} "
                        "seeds"
                    )

    def _check_curve(self, curve: Curve) -> None:
        rows = {row.name: row for row in self.rows}
        for name in curve.rows:
            if name not in rows:
                raise UserError(f"{self.name}: the curve has a row {name!r} that is not there")
            own = rows[name]
            if own.needs_data or BEST_MEMBER in own.settings.values():
                raise UserError(f"{self.name}: the curve cannot have {name}, which is of one group")
        for test in curve.tests:
            if test not in self.tests:
                raise UserError(f"{self.name}: the curve has a test {test!r} that is not there")

    def _check_names(self) -> None:
        names = [one.name for one in (*self.rows, *self.controls)]
        for name in names:
            check_name(name)
            if names.count(name) > 1 or name.startswith(("seed-", "group-", "tuning", "curve")):
                raise UserError(f"{self.name}: {name!r} is taken; rename the row or control")
        if self.curve is not None:
            self._check_curve(self.curve)

    def _check_settings(self) -> None:
        if not self.tests:
            raise UserError(f"{self.name}: no tests")
        if self.single.method != "lora":
            raise UserError(f"{self.name}: groups are of low-rank adapters (method lora)")
        for row in self.rows:
            if row.needs_data and row.grid:
                raise UserError(f"{row.name}: {row.operator} has no grid here")
            if row.operator in ON_VALIDATION and row.settings:
                raise UserError(f"{row.name}: {row.operator} has nothing to set")
            list(row.points())
        for rates in (self.learning_rates, *(one.learning_rates for one in self.controls)):
            for rate in rates:
                self.config({}, self.groups[0], rate)
        if not self.learning_rates:
            raise UserError(f"{self.name}: no learning rates; one alone is taken as it is")
        for control in self.controls:
            for group in self.control_seeds(control):
                self.config(control.changes, group, self.learning_rates[0])
