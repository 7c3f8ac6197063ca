r"""Minerva's way with answers (2206.14858, appendix D), as lm-eval's minerva_math 3.1 has it."""

import re

END = "I hope it is correct."
ANSWER = re.compile(r"Final Answer: The final answer is(.*?). I hope it is correct.")
NO_ANSWER = "[invalidanswer]"

REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
)
REMOVED = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units"),
    "\\ldots",
    *("sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds"),
    *("meters", "meals", "edges", "students", "childrentickets", "multiples"),
    *("\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}"),
    "\\text{}",
    *("\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots"),
)
"""In this order."""

UNWRAPPED = (
    (r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$"),
    (r"(\\text\{)(.*?)(\})", r"\2"),
    (r"(\\textbf\{)(.*?)(\})", r"\2"),
    (r"(\\overline\{)(.*?)(\})", r"\2"),
    (r"(\\boxed\{)(.*)(\})", r"\2"),
)
WRITTEN_OUT = (
    (r"(frac)([^{])(.)", r"frac{\2}{\3}"),
    (r"(sqrt)(\[[^\]]*\])(\w)", r"\1\2{\3}"),
    (r"(sqrt)(?!\[)([^{])", r"sqrt{\2}"),
)
COMMAND = re.compile(r"(\\[a-zA-Z]+)")
GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+")


def final_answer(text: str) -> str:
    """What stands in ``Final Answer: The final answer is ... . I hope it is correct.``, the first.

    The closing words may be missing; without the opening ones there is no answer.
    """
    found = ANSWER.search(text + END)
    return found.group(1).strip() if found else NO_ANSWER


def canonical(answer: str) -> str:
    """An answer without units and wrapping, shorthand written out."""
    answer = answer.split("=")[-1]
    for word in filter(str.isalpha, REMOVED):
        answer = re.sub(rf"(?<!\\)\b{word}\b", "", answer)
    for old, new in REPLACED:
        answer = answer.replace(old, new)
    for text in REMOVED:
        answer = _without_word(answer, text) if text.isalpha() else answer.replace(text, "")
    for pattern, new in (*UNWRAPPED, *WRITTEN_OUT):
        answer = re.sub(pattern, new, answer)
    answer = answer.replace("$", "")
    return answer.replace(",", "") if GROUPED.fullmatch(answer) else answer


def _without_word(answer: str, word: str) -> str:
    """Without a unit that is glued to its neighbours; commands stay whole."""
    parts = COMMAND.split(answer)
    return "".join(part if n % 2 else part.replace(word, "") for n, part in enumerate(parts))
