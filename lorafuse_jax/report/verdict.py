"""The result in words, as strong as the numbers and no stronger."""

from lorafuse_jax.evaluation.statistics import Comparison
from lorafuse_jax.evaluation.summary import Row, Summary
from lorafuse_jax.report.table import SIGNIFICANT, format_p, power


def verdict(summary: Summary) -> list[str]:
    """Paragraphs: what was found in accuracy, in log-likelihood, and what could have been found.

    "Better than the mean seed" needs both a corrected p below 0.05 and an interval over examples
    and seeds that excludes zero; with p alone, the finding is one about these seeds only.
    """
    tested = [row for row in summary.rows if row.accuracy_gain is not None]
    accuracy = _measure(
        "Accuracy", [(row, row.accuracy_gain, row.accuracy_p) for row in tested], 100, 1, "points"
    )
    likely = [row for row in tested if row.likelihood_gain is not None]
    paragraphs = [accuracy]
    if likely:
        results = [(row, row.likelihood_gain, row.likelihood_p) for row in likely]
        paragraphs.append(_measure("Log-likelihood", results, 1, 3, "nats a token"))
    paragraphs.append(f"{power(summary)} Not told apart does not mean equal.")
    paragraphs += [
        f"{first} and {second} gave the same answer to every example: they count as one result."
        for first, second in summary.twins
    ]
    return paragraphs


def headline(summary: Summary) -> str:
    """All of accuracy in one sentence.

    "Better" and "worse" are said as in ``verdict``: of seeds in general where the interval excludes
    zero too, else of these.
    """
    clauses: dict[str, list[str]] = {}
    for row in summary.rows:
        gain, p = row.accuracy_gain, row.accuracy_p
        if gain is not None and p is not None:
            clauses.setdefault(_clause(gain, p), []).append(row.name)
    if list(clauses) == [UNDECIDED]:
        return "In accuracy, nothing can be told apart from the mean seed."
    parts = []
    for clause in (f"better{ALL}", f"better{THESE}", f"worse{ALL}", f"worse{THESE}"):
        if names := clauses.get(clause):
            verb = "is" if len(names) == 1 else "are"
            parts.append(f"{_listed(names)} {verb} {clause}")
    if rest := clauses.get(UNDECIDED):
        parts.append(f"{_listed(rest)} cannot be told apart from it")
    return f"In accuracy, {'; '.join(parts)}."


ALL, THESE = " than the mean seed", " than the mean of these very seeds"
UNDECIDED = "undecided"


def _clause(gain: Comparison, p: float) -> str:
    if p >= SIGNIFICANT:
        return UNDECIDED
    direction = "better" if gain.difference.value > 0 else "worse"
    return direction + (ALL if gain.difference.excludes_zero() else THESE)


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _measure(
    what: str,
    results: list[tuple[Row, Comparison | None, float | None]],
    factor: int,
    digits: int,
    unit: str,
) -> str:
    sentences, rest = [], []
    for row, gain, p in results:
        if gain is None or p is None:
            continue
        d = gain.difference
        numbers = (
            f"{factor * d.value:+.{digits}f} {unit} "
            f"[{factor * d.low:+.{digits}f}, {factor * d.high:+.{digits}f}]"
        )
        if p >= SIGNIFICANT:
            rest.append(f"{row.name} ({numbers}, p {format_p(p)})")
            continue
        direction = "better" if d.value > 0 else "worse"
        sentence = f"{row.name} is {direction} than the mean seed by {numbers}, p {format_p(p)}"
        if not d.excludes_zero():
            sentence += "; of these seeds only: an interval that allows for others includes zero"
        sentences.append(sentence + ".")
    if rest:
        sentences.append(f"Not told apart from the mean seed: {', '.join(rest)}.")
    return f"{what}: " + " ".join(sentences)
