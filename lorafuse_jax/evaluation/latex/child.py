"""The process in which sympy runs; started by path, so that it imports nothing else of the package.

A line on stdin is a job, a line on stdout its result, both JSON. Whatever a formula makes of
sympy ends here: a job that takes too long ends the process, and its parent starts another.
"""

import faulthandler
import json
import logging
import os
import resource
import sys
from functools import cache
from typing import Any

from math_verify import parse, verify
from math_verify.errors import TimeoutException
from math_verify.utils import timeout
from sympy import Basic, Rational, simplify
from sympy.parsing.latex import parse_latex

SECONDS_OF_A_STEP = 5
"""As in math-verify and lm-eval."""

MEMORY = 4 << 30


class Noticed(logging.Handler):
    """Collects what math-verify would only log: that it has given up."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first words; the rest is the formula."""
        self.lines.append(record.getMessage().partition(":")[0])


def verified(noticed: Noticed, gold: str, text: str) -> dict[str, Any]:
    """Whether a text's answer is the gold one, what it is, and what went wrong."""
    noticed.lines.clear()
    found = parse(text, parsing_timeout=SECONDS_OF_A_STEP)
    wanted = parse(f"${gold}$", parsing_timeout=SECONDS_OF_A_STEP)
    right = verify(wanted, found, timeout_seconds=SECONDS_OF_A_STEP)
    fault = None if right else "; ".join(noticed.lines) or None
    return {"right": right, "answer": written(found), "fault": fault}


def written(found: list[Any]) -> str | None:
    """The answer as sympy writes it, decimals as fractions; as it stands if sympy cannot read."""
    if not found:
        return None
    first = found[0]
    if not isinstance(first, Basic):
        return str(found[-1])
    exact = Rational(str(first)) if first.is_Float else first
    try:
        return timeout(SECONDS_OF_A_STEP)(str)(exact)
    except (Exception, TimeoutException):
        return str(found[-1])


def equal(left: str, right: str) -> dict[str, Any]:
    """Whether the difference of two formulas simplifies to zero, as in lm-eval's minerva_math."""

    def difference_is_zero() -> bool:
        return bool(simplify(parse_latex(left) - parse_latex(right)) == 0)

    try:
        return {"right": timeout(SECONDS_OF_A_STEP)(difference_is_zero)(), "fault": None}
    except ImportError as error:  # of antlr's runtime sympy wants one version
        return {"missing": str(error)}
    except TimeoutException:
        return {"right": False, "fault": "Timeout during comparison"}
    except Exception:  # what sympy cannot parse or subtract is not equal
        return {"right": False, "fault": None}


@cache
def warm_up(latex_of_sympy: bool) -> None:
    """Let the parsers build their tables, once, so that no formula is charged for it."""
    if latex_of_sympy:
        equal("1", "2")
    else:
        verify(parse("$1$"), parse("2"))


def main(seconds: float) -> None:
    """Answer one job after the other."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    noticed = Noticed()
    logging.getLogger("math_verify").addHandler(noticed)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        warm_up("equal" in job)
        # This watches from a thread of C: it also ends what holds the interpreter's lock.
        faulthandler.dump_traceback_later(seconds, exit=True)
        result = equal(*job["equal"]) if "equal" in job else verified(noticed, *job["verify"])
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(result), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
