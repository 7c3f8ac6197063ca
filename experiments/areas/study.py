"""Where everything of one area's experiment lies, and which parts of it are finished.

OUT/
  done.json              step -> digest of what it was made from
  tuning-NAME-1/         the tuning seed, once a learning rate (run folders)
  rates.json             the learning rates that were chosen
  group-1/ group-2/      each group's seeds, its fused adapters and all answers (run folders)
  NAME/                  each control (a run folder; its adapters answer beside the groups')
  curve/                 the larger group; its subsets' fused adapters are in curve/subsets/
  choice/group-1.json    validation losses of every setting that was tried
  chosen.json            what was chosen by them
  compiled/              programs, for groups, tests and repetitions to share
  opened.json            the digest of chosen.json when the first test was opened
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.areas.area import Area, Control
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.types import UserError


@dataclass(frozen=True)
class Study:
    """An area's experiment on disk."""

    area: Area
    out: Path

    @property
    def groups(self) -> list[RunFolder]:
        """The runs of all groups."""
        return [RunFolder(self.out / f"group-{n}") for n in range(1, len(self.area.groups) + 1)]

    @property
    def curve(self) -> RunFolder:
        """The run of the larger group."""
        return RunFolder(self.out / "curve")

    @property
    def rates_path(self) -> Path:
        """Learning rates by name: of ``single`` and of every control."""
        return self.out / "rates.json"

    @property
    def chosen_path(self) -> Path:
        """What was chosen on validation."""
        return self.out / "chosen.json"

    @property
    def opened_path(self) -> Path:
        """There once a test was opened."""
        return self.out / "opened.json"

    def control(self, control: Control) -> RunFolder:
        """A control's run, for all groups together."""
        return RunFolder(self.out / control.name)

    def tuning(self, name: str, part: int) -> RunFolder:
        """The run that tries some of the learning rates."""
        return RunFolder(self.out / f"tuning-{name}-{part}")

    def losses_path(self, group: RunFolder) -> Path:
        """Validation losses of a group's fused adapters."""
        return self.out / "choice" / f"{group.path.name}.json"

    def rate(self, name: str) -> float:
        """The learning rate that was chosen.

        Raises:
            UserError: none was yet.
        """
        return read(self.rates_path, "learning rates are chosen first")[name]["rate"]

    def chosen(self) -> dict[str, Any]:
        """What was chosen on validation: ``about``, ``rows``, ``groups``; see ``choosing``.

        Raises:
            UserError: nothing was yet, or it was changed after a test was opened.
        """
        found = read(self.chosen_path, "settings are chosen on validation before a test is opened")
        if self.opened_path.exists():
            then = read(self.opened_path, "")["chosen"]
            if then != digest_of_file(self.chosen_path):
                raise UserError(
                    f"{self.chosen_path} is not what it was when the first test was opened: what "
                    "was chosen stays; start anew in another folder to choose otherwise"
                )
        return found

    def open_tests(self) -> dict[str, Any]:
        """``chosen``, which from now on must stay as it is."""
        found = self.chosen()
        if not self.opened_path.exists():
            write_json(self.opened_path, {"chosen": digest_of_file(self.chosen_path)})
        return found


def read(path: Path, problem: str) -> dict[str, Any]:
    """A JSON file.

    Raises:
        UserError: it is not there (``problem`` says what that means) or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is not there: {problem}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it") from None


def write_json(path: Path, content: Any) -> None:
    """A JSON file, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def digest_of(content: Any) -> str:
    """sha256 of anything that JSON can say."""
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """sha256 of a file."""
    return sha256(path.read_bytes()).hexdigest()
