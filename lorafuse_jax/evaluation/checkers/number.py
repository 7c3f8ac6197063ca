"""Numeric answers: found in a text, compared exactly."""

import re
from decimal import Decimal, InvalidOperation, localcontext

from lorafuse_jax.evaluation.checkers.checker import Checker, by_finding
from lorafuse_jax.worked import HASHES

NUMBER = re.compile(
    r"((?<![\w.)])[-+\u2212])?"  # a sign, unless it stands after something: 10-4 ends in 4
    r"[$€£]?"
    r"((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(/\d+)?"  # a fraction is taken whole, and then equals no number
)


def extract(text: str) -> str | None:
    """The answer in a text: the first number after the last ``####``, else the last number.

    The convention of GSM8K's references, made lenient for models that leave the mark out. Currency
    signs are left out. A fraction such as ``1/2`` comes back whole: not as 1, nor as 2.
    """
    _, mark, after = text.rpartition(HASHES)
    marked = NUMBER.search(after) if mark else None
    found = marked or next(reversed(list(NUMBER.finditer(text))), None)
    if found is None:
        return None
    sign, number, fraction = (part or "" for part in found.groups())
    return sign.replace("\u2212", "-") + number + fraction


def canonical(text: str | None) -> str | None:
    """The number as text, without grouping, unit signs and closing zeros; None if it is none."""
    number = _decimal(text)
    if number is None:
        return None
    with localcontext(prec=len(number.as_tuple().digits) + 1):  # so that no digit is lost
        return f"{number.normalize() + 0:f}"


def find(text: str) -> str | None:
    """The answer in a text, so written that equal numbers are equal texts; see ``extract``."""
    found = extract(text)
    return canonical(found) or found


def matches(found: str | None, gold: str) -> bool:
    """Exact equality as decimal numbers: ``1,050.0`` is ``1050``; no tolerance."""
    number = _decimal(found)
    return number is not None and number == _decimal(gold)


def _problem(gold: str) -> str | None:
    return None if _decimal(gold) is not None else f"the answer {gold!r} is no number"


def _decimal(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(re.sub(r"[,$€£%\s]", "", text).rstrip("."))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


CHECKER = Checker(
    name="number",
    about="the number after the last ####, else the last number",
    score=by_finding(find, matches),
    problem=_problem,
)
