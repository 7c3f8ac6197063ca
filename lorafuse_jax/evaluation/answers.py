"""Numeric answers: found in a text, compared exactly, voted on."""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")
MARK = "####"


def extract(text: str) -> str | None:
    """The answer in a text: the first number after the last ``####``, else the last number.

    The convention of GSM8K's references, made lenient for models that leave the mark out.
    """
    _, mark, after = text.rpartition(MARK)
    marked = NUMBER.search(after) if mark else None
    if marked:
        return marked[0]
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers else None


def is_correct(prediction: str | None, reference: str) -> bool:
    """Exact equality as decimal numbers: ``1,050.0`` is ``1050``; no tolerance."""
    found = _decimal(prediction)
    return found is not None and found == _decimal(reference)


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
        return Decimal(re.sub(r"[,$€£%\s]", "", text).rstrip("."))
    except InvalidOperation:
        return None
