r"""The string rules of MATH's authors (2103.03874, math_equivalence.py).

Two answers are equal if they are the same text after spacing, units and sizes are left out, and
shorthand such as ``\frac12`` is written out. What the rules cannot read is compared as it stands.
"""

LEFT_OUT = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")
UNIT = "\\text{ "
SPECIAL = {"0.5": "\\frac{1}{2}"}


class Unreadable(Exception):
    """The rules say nothing of the text."""


def equal(left: str, right: str) -> bool:
    """Whether two answers are the same by the rules."""
    try:
        return canonical(left) == canonical(right)
    except Unreadable:
        return left == right


def canonical(text: str) -> str:
    """The text as the rules write it.

    Raises:
        Unreadable: they do not cover it.
    """
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for one in LEFT_OUT:
        text = text.replace(one, "")
    text = _without_unit(text).replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text.startswith("."):
        text = "0" + text
    before, _, after = text.partition("=")
    if text.count("=") == 1 and len(before) <= 2:
        text = after
    text = _with_fraction_braces(_with_root_braces(text).replace(" ", ""))
    return _with_fraction(SPECIAL.get(text, text))


def _without_unit(text: str) -> str:
    if text.count(UNIT) > 1:
        raise Unreadable
    return text.partition(UNIT)[0]


def _with_root_braces(text: str) -> str:
    r"""``\sqrt3`` becomes ``\sqrt{3}``."""
    first, *others = text.split("\\sqrt")
    if not all(others):
        raise Unreadable
    return first + "".join(
        "\\sqrt" + (one if one[0] == "{" else f"{{{one[0]}}}{one[1:]}") for one in others
    )


def _with_fraction_braces(text: str) -> str:
    r"""``\frac12`` and ``\frac1{2}`` become ``\frac{1}{2}``."""
    first, *others = text.split("\\frac")
    written = first
    for one in others:
        if not one:
            raise Unreadable
        if one[0] != "{":
            if len(one) < 2:
                return text
            bottom = one[1:] if one[1] == "{" else f"{{{one[1]}}}{one[2:]}"
            written += f"\\frac{{{one[0]}}}{bottom}"
        else:
            written += "\\frac" + one
    return written


def _with_fraction(text: str) -> str:
    r"""``3/4`` becomes ``\frac{3}{4}``."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    try:
        top, bottom = map(int, parts)
    except ValueError:
        raise Unreadable from None
    return f"\\frac{{{top}}}{{{bottom}}}" if text == f"{top}/{bottom}" else text
