"""Training checkpoints: orbax writes and reads the arrays, digests say whether they are whole.

orbax notices what is missing and what its metadata cannot mean, but not a flipped bit among the
numbers: they come back wrong without a word. So beside its files there is a ``checkpoint.json``
with the digest of each of them and of itself, and all of it takes its place by one rename.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import orbax.checkpoint as ocp

from lorafuse_jax.formats.folder import is_disk_full, new_folder
from lorafuse_jax.parallel import hosts
from lorafuse_jax.types import UserError

Tree = TypeVar("Tree")

FORMAT = 1
"""Of the tree and of ``checkpoint.json``; counts up when older checkpoints cannot be read."""

KEPT = 2
_ABOUT, _ARRAYS = "checkpoint.json", "arrays"


class Damaged(Exception):
    """A checkpoint is not whole; says what is wrong with it."""


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
        step: steps taken.
        tree: the arrays.
        beside: what was saved beside them.
    """

    step: int
    tree: Any
    beside: dict[str, Any]


class Checkpoints:
    """The newest two checkpoints of a run, ``FOLDER/STEP``.

    One job at a time: what an earlier one left unfinished is removed. Of several hosts all write
    their parts of the arrays, into a folder that all see, and the first everything else; what was
    written by some hosts can be restored by others, on another mesh.
    """

    def __init__(self, folder: Path, written_by: dict[str, Any]) -> None:
        """Open, or prepare to create.

        Args:
            folder: of this run's checkpoints.
            written_by: what must be the same when a checkpoint is used again, JSON-able: the
                configuration's digest, versions.
        """
        self.folder = folder.absolute()
        self._written_by = json.loads(json.dumps(written_by))
        if self.folder.exists() and hosts.is_first():
            for unfinished in self.folder.glob(".*"):
                shutil.rmtree(unfinished)

    def steps(self) -> list[int]:
        """Of the checkpoints that are there, whole or not, in ascending order."""
        if not self.folder.exists():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def save(self, step: int, tree: object, beside: dict[str, Any] | None = None) -> None:
        """Write the checkpoint of ``step``; when this returns it is on disk, and older ones go.

        Raises:
            UserError: the disk is full; the checkpoints before are as they were.
        """
        try:
            with _orbax_errors_only_raised(), _shared(self.folder / str(step)) as whole:
                with ocp.StandardCheckpointer() as orbax:
                    orbax.save(whole / _ARRAYS, tree)
                if hosts.is_first():
                    _write_about(whole, self._about(step, whole, beside or {}))
        except (OSError, ValueError) as error:  # tensorstore's are ValueErrors
            if not is_disk_full(error):
                raise
            there = self.steps()
            kept = f"the one of step {there[-1]} is whole" if there else "there is none before it"
            raise UserError(
                f"{self.folder}: no space left on the disk for the checkpoint of step {step}; "
                f"{kept}. Make room and repeat the command to go on"
            ) from error
        if hosts.is_first():
            for old in self.steps()[:-KEPT]:
                shutil.rmtree(self.folder / str(old))

    def restore(self, like: Tree, say: Callable[[str], None]) -> Restored | None:
        """The newest checkpoint that is whole, or None; damaged ones are said and removed.

        Args:
            like: gives structure, shapes and types.
            say: takes a line for every damaged checkpoint.

        Raises:
            UserError: it was written by another configuration or version, or is of another
                structure; nothing is removed.
        """
        newest = hosts.together(lambda: self._newest(say) if hosts.is_first() else None)
        about = hosts.of_first(newest)
        if about is None:
            return None
        path = self.folder / str(about["step"])
        return Restored(about["step"], _read_arrays(path, like), about["beside"])

    def _newest(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """What is said of the newest that is whole; those after it are removed."""
        for step in reversed(self.steps()):
            path = self.folder / str(step)
            try:
                about = read_whole(path)
                self._check_written_by(about, path)
                return about
            except Damaged as damage:
                before = [s for s in self.steps() if s < step]
                then = f"going back to step {before[-1]}" if before else "starting again"
                say(f"the checkpoint of step {step} is damaged ({damage}) and was removed; {then}")
                shutil.rmtree(path)
        return None

    def _about(self, step: int, whole: Path, beside: dict[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "step": step,
            "written_by": self._written_by,
            "beside": beside,
            "files": {name: _digest(whole / name) for name in _files_of(whole)},
        }

    def _check_written_by(self, about: dict[str, Any], path: Path) -> None:
        there = {"format": about["format"], **about["written_by"]}
        now = {"format": FORMAT, **self._written_by}
        different = [key for key in sorted(there | now) if there.get(key) != now.get(key)]
        if different:
            listed = "\n".join(f"  {k}: {there.get(k)} there, {now.get(k)} now" for k in different)
            raise UserError(
                f"{path} was written by another configuration or version:\n{listed}\n"
                "a run that went on from it would not be the run that was started; go on with what "
                "it was written by, or name another folder with --out to start again"
            )


@contextmanager
def _shared(folder: Path) -> Iterator[Path]:
    """A new folder for all hosts, which the first makes, and puts in its place at the end."""
    with ExitStack() as stack:
        made = hosts.together(
            lambda: str(stack.enter_context(new_folder(folder))) if hosts.is_first() else None
        )
        yield Path(hosts.of_first(made))
    hosts.wait(str(folder))


def read_whole(path: Path) -> dict[str, Any]:
    """``checkpoint.json`` of a checkpoint, after everything in it was found to be as written.

    Raises:
        Damaged: a file is missing, or not what was written.
    """
    try:
        signed = json.loads((path / _ABOUT).read_bytes())
        about = signed["about"]
        whole = signed["sha256"] == _digest_of(about) and about["step"] == int(path.name)
    except (OSError, ValueError, KeyError, TypeError):
        whole, about = False, {}
    if not whole:
        raise Damaged(f"{_ABOUT} is missing or not what was written")
    for name, digest in about["files"].items():
        if not (path / name).is_file():
            raise Damaged(f"{name} is missing")
        if _digest(path / name) != digest:
            raise Damaged(f"{name} is not what was written")
    return about


def _read_arrays(path: Path, like: Tree) -> Tree:
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
        with _orbax_errors_only_raised(), ocp.StandardCheckpointer() as orbax:
            return orbax.restore(path / _ARRAYS, abstract)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is whole, but not of this run's structure ({error}); was it copied from "
            "another? Remove it to go on from the one before"
        ) from error


def _write_about(whole: Path, about: dict[str, Any]) -> None:
    with (whole / _ABOUT).open("w") as file:
        json.dump({"about": about, "sha256": _digest_of(about)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _digest_of(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_of(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@contextmanager
def _orbax_errors_only_raised() -> Iterator[None]:
    """Not written to the terminal as well, with the traces of all its threads."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
