"""One task of the controlled world, from training to results; every stage keeps what it did."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.shard import Shard
from experiments.world.answers import Marks, Questions, make_asker, questions_of
from experiments.world.conditions import MEMBERS, Condition
from experiments.world.config import World
from experiments.world.data_rows import data_rows
from experiments.world.measure import (
    Exam,
    best_members,
    choose,
    fused_table,
    geometry,
    groups_of,
    member_table,
)
from experiments.world.record import write_marks
from experiments.world.rows import ROWS, Row, Settings
from experiments.world.training import adapters_of, train_condition, tune, write_task
from lorafuse_jax.data.encode import encode_all
from lorafuse_jax.data.examples import load_task
from lorafuse_jax.data.templates import CHAT
from lorafuse_jax.models.hub import Model, load_model
from lorafuse_jax.run_folder import write_atomically
from lorafuse_jax.types import Adapter, UserError
from lorafuse_jax.workflow.progress import console

TESTS = ("test", "transfer")
SWEPT_ROWS = ("mean", "mean, norm matched", "mean, scale chosen", "version 1", "version 2")


class Stages:
    """A task's stages, in the order in which they must come."""

    def __init__(
        self, world: World, shard: Shard, base: Path, out: Path, results: Path, task: str
    ) -> None:
        """Write the task's data.

        Args:
            world: sizes.
            shard: the time there is.
            base: the pretrained model's folder.
            out: folder for runs.
            results: folder for what is kept.
            task: of ``language.TASKS``.
        """
        self.world, self.shard, self.task = world, shard, task
        self._base, self._out, self._results = base, out / task, results
        self._data = write_task(self._out / "data", task, world.problems)

    def train_and_choose(self) -> None:
        """Learning rates, then all seeds but the sweeps', then hyper-parameters on validation."""
        for name in self.world.tuned:
            self._rate(name)
        self._train(self.world.main(), "single")
        for name in self.world.tuned:
            if name != "single":
                self._train(self.world.control(name), name)
        self._chosen()

    def test(self) -> None:
        """Every row on both tests."""
        for split in TESTS:
            file = self._results / f"{self.task}-{split}.npz"
            if file.exists():
                continue
            rows = self._rows_chosen()  # before a test question is looked at
            self.shard.step(f"{self.task}: every row on {split}")
            exam = self._exam(split)
            groups = groups_of(self._tested, MEMBERS)
            table: dict[str, Sequence[Marks]] = {
                "base": [exam.mark({})] * len(groups),
                **member_table(exam, groups, vote=True),
            }
            best = best_members(self._exam("validation"), groups)
            table["best seed"] = [
                table[f"seed {member + 1}"][number] for number, member in enumerate(best)
            ]
            for name, marks in fused_table(exam, groups, rows):
                table[name] = marks
                self._say(name, marks)
            for name, adapters in self._data_rows.items():
                table[name] = [exam.mark(adapter) for adapter in adapters]
                self._say(name, table[name])
            table |= self._controls(exam)
            write_marks(file, table)

    def count_seeds(self) -> None:
        """The curve over N."""
        for count in self.world.counts:
            condition = Condition("single", (), members=count)
            self._measure(f"{self.task}-n{count}", condition, self._tested)

    def sweep(self) -> None:
        """Other recipes, groups of three; and the threshold of version 2 on the main seeds."""
        for name in self.world.sweeps:
            condition = self.world.sweep(name)
            file = self._results / f"{self.task}-{_slug(name)}.npz"
            if not file.exists():
                self.shard.step(f"{self.task}: {name}")
                self._measure(f"{self.task}-{_slug(name)}", condition, self._seeds(condition))

    def _measure(self, stem: str, condition: Condition, members: Sequence[Adapter]) -> None:
        """Seeds, ensemble and the few rows of sweeps, on the test of the trained kind."""
        file = self._results / f"{stem}.npz"
        if file.exists():
            return
        chosen = self._rows_chosen()
        self.shard.step(f"{stem}: {len(members)} seeds in groups of {condition.members}")
        exam, groups = self._exam("test"), groups_of(members, condition.members)
        table: dict[str, Sequence[Marks]] = dict(member_table(exam, groups, vote=False))
        rows = {name: row for name, row in chosen.items() if name in SWEPT_ROWS}
        table |= dict(fused_table(exam, groups, rows))
        write_marks(file, table)
        self.shard.kept(
            self._results / f"{stem}.json", f"{stem}: geometry", lambda: geometry(groups)
        )

    @cached_property
    def _model(self) -> Model:
        return load_model(self._base)

    @cached_property
    def _ask(self) -> Any:
        return make_asker(self._model)

    @cached_property
    def _questions(self) -> dict[str, Questions]:
        splits = load_task(self._data).splits
        return {
            split: questions_of(encode_all(examples, self._model.tokenizer, CHAT))
            for split, examples in splits.items()
        }

    def _exam(self, split: str) -> Exam:
        return Exam(self._model, self._ask, self._questions[split])

    @cached_property
    def _tested(self) -> list[Adapter]:
        return self._seeds(self.world.main())[self.world.choosing :]

    @cached_property
    def _data_rows(self) -> dict[str, list[Adapter]]:
        groups = groups_of(self._tested, MEMBERS)
        console.print(f"{self.task}: rows that look at data")
        return data_rows(self._model, groups, self._questions["train"], self._exam("validation"))

    def _settings(self, condition: Condition, tuned: str) -> dict[str, Any]:
        """Of a condition's ``TrainConfig``, but for its seeds."""
        changes = dict(condition.changes)
        rate = self._rate(tuned) * changes.pop("rate", 1.0)
        return self._recipe(changes) | {"learning_rate": rate}

    def _recipe(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        settings = dict(self.world.recipe) | dict(changes)
        if settings.get("method") == "full":
            settings = {k: v for k, v in settings.items() if k not in ("rank", "alpha")}
        return settings | {
            "model": str(self._base),
            "data": str(self._data),
            "heldout_examples": self.world.problems["validation"],
        }

    def _rate(self, name: str) -> float:
        """The learning rate with the lowest held-out loss of a recipe."""
        found = self.shard.kept(
            self._results / f"{self.task}-rates-{_slug(name)}.json",
            f"{self.task}: learning rates of {name}",
            lambda: tune(
                self._out / f"rates-{_slug(name)}",
                self.world,
                name,
                self._recipe(self.world.tuned[name]),
            ),
        )
        return float(min(found, key=found.__getitem__))

    def _train(self, condition: Condition, tuned: str) -> list[tuple[Any, int]]:
        settings = self._settings(condition, tuned)
        return train_condition(self._out, condition, settings)

    def _seeds(self, condition: Condition) -> list[Adapter]:
        return adapters_of(self._train(condition, "single"), self._model)

    def _chosen(self) -> dict[str, list[float]]:
        """Held-out loss of every setting of every row, on the groups that are in no test."""
        file = self._results / f"{self.task}-chosen.json"
        losses = json.loads(file.read_text()) if file.exists() else {}
        left = {n: row for n, row in ROWS.items() if len(losses.get(n, ())) != len(row.settings)}
        if not left:
            return losses
        if any((self._results / f"{self.task}-{split}.npz").exists() for split in TESTS):
            raise UserError(f"{file}: tests were opened, and {next(iter(left))} is not chosen")
        self.shard.step(f"{self.task}: hyper-parameters on validation")
        seeds = self._seeds(self.world.main())[: self.world.choosing]
        groups, exam = groups_of(seeds, MEMBERS), self._exam("validation")
        for name, own in choose(exam, groups, left):
            self._show(name, own)
            losses[name] = own
            write_atomically(file, json.dumps(losses, indent=1) + "\n")
        return losses

    def _rows_chosen(self) -> dict[str, tuple[Row, Settings]]:
        """Every row with the settings of the lowest held-out loss."""
        losses = self._chosen()
        return {n: (row, row.settings[int(np.argmin(losses[n]))]) for n, row in ROWS.items()}

    def _controls(self, exam: Exam) -> dict[str, list[Marks]]:
        """Trained otherwise: one adapter, or one whole model, a group."""
        found = {}
        for name in self.world.tuned:
            if name == "single":
                continue
            trained = self._train(self.world.control(name), name)
            if self.world.tuned[name].get("method") == "full":
                models = (load_model(run.adapter_path(seed)) for run, seed in trained)
                found[name] = [
                    Exam(model, make_asker(model), exam.questions).mark({}) for model in models
                ]
            else:
                found[name] = [exam.mark(one) for one in adapters_of(trained, self._model)]
            self._say(name, found[name])
        return found

    def _say(self, name: str, marks: Sequence[Marks]) -> None:
        right = np.mean([one.right.mean() for one in marks])
        likely = np.mean([one.log_likelihood.mean() for one in marks])
        console.print(f"  {name}: {right:.1%} right, {likely:.3f} nats a token")

    def _show(self, name: str, losses: Sequence[float]) -> None:
        console.print(f"  {name}: " + " ".join(f"{loss:.4f}" for loss in losses))


def _slug(name: str) -> str:
    return name.replace(" ", "-").replace("/", "-")
