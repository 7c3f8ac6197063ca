"""Numeric answers: found in a text, compared exactly, voted on."""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from lorafuse_jax.types import UserError

NUMBER = re.compile(
    r"((?<![\w.)])[-+\u2212])?"  # a sign, unless it stands after something: 10-4 ends in 4
    r"[$€£]?"
    r"((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(/\d+)?"  # a fraction is taken whole, and then equals no number
)
MARK = "####"


def extract(text: str) -> str | None:
    """The answer in a text: the first number after the last ``####``, else the last number.

    The convention of GSM8K's references, made lenient for models that leave the mark out. Currency
    signs are left out. A fraction such as ``1/2`` comes back whole: not as 1, nor as 2.
    """
    _, mark, after = text.rpartition(MARK)
    marked = NUMBER.search(after) if mark else None
    found = marked or next(reversed(list(NUMBER.finditer(text))), None)
    if found is None:
        return None
    sign, number, fraction = (part or "" for part in found.groups())
    return sign.replace("\u2212", "-") + number + fraction


def is_correct(prediction: str | None, reference: str) -> bool:
    """Exact equality as decimal numbers: ``1,050.0`` is ``1050``; no tolerance.

    Raises:
        UserError: the reference is no number, so that no prediction could be right.
    """
    expected = _decimal(reference)
    if expected is None:
        raise UserError(
            f"the reference answer {reference!r} is no number, so nothing could equal it; give "
            "each example a number as its 'answer'"
        )
    return _decimal(prediction) == expected


def majority_vote(predictions: Sequence[str | None]) -> str | None:
    """The number that most members give; of equally frequent ones the earliest member's.

    No answer never wins against an answer.
    """
    values = {prediction: _decimal(prediction) for prediction in predictions}
    counts = Counter(values[p] for p in predictions if values[p] is not None)
    if not counts:
        return None
    most = max(counts.values())
    return next(p for p in predictions if counts.get(values[p], 0) == most)


def _decimal(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(re.sub(r"[,$€£%\s]", "", text).rstrip("."))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
