"""Models from elsewhere that answer beside a run's own, and what other runs have answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorafuse_jax.evaluation.archive import NOT_COMPARED, Archive, alike
from lorafuse_jax.evaluation.records import Answer
from lorafuse_jax.evaluation.scores import Kind
from lorafuse_jax.formats import is_adapter
from lorafuse_jax.formats.dora import is_dora
from lorafuse_jax.run_folder import RunFolder, check_name
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.method_full import is_whole_model

SAME_BASE = ("model_fingerprint", "quantization")
"""What of two runs' configurations must be equal for equal updates to be equal models."""


@dataclass(frozen=True)
class Beside:
    """A model from elsewhere.

    Attributes:
        name: in tables.
        folder: an adapter of the run's base, of any kind, or a whole model.
        kind: ``control``, or ``subset`` with a name such as ``mean(11+42)``.
    """

    name: str
    folder: Path
    kind: Kind = "control"


def parse_beside(words: Sequence[str]) -> list[Beside]:
    """``FOLDER``, or ``NAME=FOLDER``; a folder's own name is its name.

    Raises:
        UserError: no such folder, nothing that can answer in it, or no name for a folder.
    """
    found = []
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder if equals else word)
        found.append(Beside(check_name(name if equals else path.resolve().name), path))
    return found


def check_beside(beside: Sequence[Beside], run: RunFolder) -> None:
    """Raise UserError for a folder without a model, or a name that is taken."""
    taken = {"base", *(f"seed-{seed}" for seed in run.trained_seeds()), *run.fused_names()}
    for one in beside:
        if not (is_adapter(one.folder) or is_dora(one.folder) or is_whole_model(one.folder)):
            raise UserError(
                f"{one.folder} holds neither an adapter nor a model; name one of the folders in a "
                "run's adapters/ or fused/"
            )
        if one.name in taken:
            raise UserError(
                f"there is a model {one.name} already; call {one.folder} something else, "
                f"other={one.folder}"
            )
        taken.add(one.name)


def answers_elsewhere(
    archive: Archive, run: RunFolder, others: Sequence[RunFolder]
) -> dict[tuple[str, str], Answer]:
    """What other runs over the same base have answered to these questions, asked alike.

    Args:
        archive: of the questions, opened.
        run: whose it is.
        others: of which some may not have been asked.

    Returns:
        Weights and question -> answer.

    Raises:
        UserError: another run is over another base.
    """
    known: dict[tuple[str, str], Answer] = {}
    config, questions = run.config(), {one.id: one for one in archive.questions()}
    for other in others:
        its = other.config()
        if any(its.get(key) != config.get(key) for key in SAME_BASE):
            raise UserError(
                f"{other.path} was trained on another base than {run.path}: what it has answered "
                "is of no use here"
            )
        theirs = Archive(other.evaluations_path / archive.path.name)
        if not (theirs.path / "task.json").exists() or _how(theirs) != _how(archive):
            continue
        same = {
            one.id
            for one in theirs.questions()
            if one.id in questions and alike(questions[one.id], one)
        }
        known |= {key: one for key, one in theirs.by_weights().items() if one.id in same}
    return known


def _how(archive: Archive) -> dict[str, Any]:
    return {key: value for key, value in archive.asked().items() if key not in NOT_COMPARED}
