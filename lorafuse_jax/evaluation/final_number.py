"""The number that a worked answer ends in, by the rules of those who publish such results.

lm-eval (0.4.13, tasks/gsm8k) finds a text by a regular expression and compares it as text, without
commas, dollar signs and a closing full stop: ``18.0`` is not ``18``. MetaMath (eval_gsm8k.py)
rounds to a whole number.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from lorafuse_jax.evaluation.checkers import number
from lorafuse_jax.worked import HASHES, SAID

AFTER_HASHES = re.compile(r"#### (-?[0-9.,]+)")
AFTER_THE_ANSWER_IS = re.compile(r"The answer is (-?[0-9.,]+).")
"""The closing full stop, or whatever else stands there, is asked for: without it a digit is lost,
as in lm-eval."""

ANY_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = (",", r"\$", r"(?s).*#### ", r"\.$")
MARKS = (HASHES, "The answer is")
METAMATH_NUMBER = re.compile(r"[-+]?\d*[.,/]?\d+")


class Form(NamedTuple):
    """One way in which a final number is asked for.

    Attributes:
        find: the number in a text, written so that equal numbers are equal texts; None is none.
        gold: a right answer as ``find`` would give it; None if ``find`` never could.
    """

    find: Callable[[str], str | None]
    gold: Callable[[str], str | None]


def flexible(text: str) -> str | None:
    """The last number, however it is put: lm-eval's flexible-extract."""
    last = next(reversed(list(ANY_NUMBER.finditer(text))), None)
    return None if last is None else cleaned(last.group().strip())


def cleaned(text: str) -> str:
    """A found text as lm-eval compares it."""
    for pattern in IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


def rounded(text: str) -> str | None:
    """The first number after the last ``The answer is: ``, as a whole one: MetaMath's rule.

    Halves go to the even neighbour; fractions are divided; a second comma ends the number.
    Departure: what ends MetaMath's program, such as ``1/00``, is no answer.
    """
    _, mark, after = text.rpartition(SAID)
    found = METAMATH_NUMBER.search(after) if mark else None
    return None if found is None else _whole(found.group().replace(",", ""))


def _whole(written: str) -> str | None:
    top, slash, bottom = written.partition("/")
    divided = bool(slash) and bottom != "0"
    try:
        value = round(int(top) / int(bottom)) if divided else round(float(top))
        return f"{float(value):.0f}"
    except (ValueError, ArithmeticError):
        return None


def marked(text: str) -> str | None:
    """The first number after the last ``####`` or ``The answer is``; any way of writing it."""
    after = after_mark(text)
    return None if after is None else number.find(HASHES + after)


def after_mark(text: str) -> str | None:
    """All after the last ``####`` or ``The answer is``; None if neither is there."""
    place, mark = max((text.rfind(mark), mark) for mark in MARKS)
    return text[place + len(mark) :] if place >= 0 else None


def _searched(pattern: re.Pattern) -> Callable[[str], str | None]:
    def find(text: str) -> str | None:
        found = pattern.search(text)
        return None if found is None else cleaned(found.group(1).strip())

    return find


def _gold(text: str) -> str | None:
    return None if number.canonical(text) is None else cleaned(text)


def _whole_gold(text: str) -> str | None:
    value = number.canonical(text)
    return None if value is None or "." in value else f"{float(int(value)):.0f}"


FORMS: dict[str, Form] = {
    "#### n": Form(_searched(AFTER_HASHES), _gold),
    "The answer is n.": Form(_searched(AFTER_THE_ANSWER_IS), _gold),
    "The answer is: n": Form(rounded, _whole_gold),
    "either": Form(marked, number.canonical),
}
"""By the name that conventions have for them; ``either`` is the first two marks, as numbers."""
