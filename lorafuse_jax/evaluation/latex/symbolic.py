"""math-verify and sympy in a process of their own, which may hang, die or eat memory."""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lorafuse_jax.types import UserError

CHILD = Path(__file__).with_name("child.py")
ANTLR = "4.11"
SECONDS_OF_A_JOB = 30.0
"""math-verify gives up by itself after 5 in each of its steps, if Python is still running."""


class Verdict(NamedTuple):
    """Of one answer.

    Attributes:
        right: whether it is the gold one.
        answer: as sympy writes it, or as it stands where sympy cannot read it; None if there is
            none. Formulas that are equal may be written in several ways.
        fault: why it may be counted as wrong without being so.
    """

    right: bool
    answer: str | None
    fault: str | None


class Symbolic:
    """Compares formulas; a context that ends its process.

    Args:
        seconds: after which a formula that does not come to an end is given up.
    """

    def __init__(self, seconds: float = SECONDS_OF_A_JOB):
        self._seconds = seconds
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Symbolic":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def verify(self, gold: str, text: str) -> Verdict:
        """Whether the answer in a text is the gold one, by math-verify's ``parse`` and ``verify``.

        Departure: math-verify is given the gold answer by itself, lm-eval gives it the whole
        solution. The two are read alike but for percentages, which it cannot read in a box, and for
        solutions with two answers in boxes.

        Raises:
            UserError: math-verify cannot be started.
        """
        result = self._result({"verify": [gold, text]})
        return Verdict(result["right"], result.get("answer"), result["fault"])

    def equal(self, left: str, right: str) -> Verdict:
        """Whether the difference of two formulas simplifies to zero; the answer is ``left``.

        Raises:
            UserError: math-verify cannot be started, or antlr's runtime is of another version.
        """
        result = self._result({"equal": [left, right]})
        return Verdict(result["right"], left, result["fault"])

    def _result(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._child is None:
            self._child = self._started()
        assert self._child.stdin is not None and self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(job) + "\n")
            self._child.stdin.flush()
            reply = self._child.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if reply.endswith("\n"):
            result = json.loads(reply)
            if "missing" in result:
                raise UserError(_not_installed(result["missing"]))
            return result
        self._end()
        fault = f"sympy came to no end in {self._seconds:g} s, or has died of the formula"
        return {"right": False, "fault": fault}

    def _started(self) -> subprocess.Popen[str]:
        with tempfile.TemporaryFile("w+") as errors:
            # A session of its own: Ctrl-C stops the parent, which ends the child.
            child = subprocess.Popen(
                [sys.executable, "-P", str(CHILD), str(self._seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
            assert child.stdout is not None
            if child.stdout.readline() == "ready\n":
                return child
            child.communicate()
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it has died"])[-1]
        raise UserError(_not_installed(last))

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def check_installed(*, latex_of_sympy: bool = False) -> None:
    """Look before long work whether answers could be compared.

    Args:
        latex_of_sympy: whether ``Symbolic.equal`` is wanted too.

    Raises:
        UserError: something is missing.
    """
    if find_spec("math_verify") is None:
        raise UserError(_not_installed("it is not installed"))
    if not latex_of_sympy:
        return
    try:
        found = version("antlr4-python3-runtime")
    except PackageNotFoundError:
        found = "none"
    if not found.startswith(ANTLR):
        raise UserError(_not_installed(f"sympy reads LaTeX with antlr {ANTLR}, here is {found}"))


def _not_installed(why: str) -> str:
    return f"answers in LaTeX cannot be compared: {why}; pip install 'lorafuse-jax[eval]'"
