"""What a checker is."""

from collections.abc import Callable
from typing import NamedTuple

from lorafuse_jax.evaluation.benchmark import Question, Response, Score, Scorer, each

METRIC = "correct"


class Checker(NamedTuple):
    """One kind of answer.

    Attributes:
        name: on the command line.
        about: one line.
        score: responses, each beside its question -> their scores.
        problem: what is wrong with a gold answer, so that nothing could match it; None if nothing.
        metrics: names of the scores' values; models are compared by the first.
        stop_strings: end an answer, besides the model's own end.
        runs_programs: whether to score is to run what models wrote; ``score`` then takes ``unsafe``
            and ``cache`` too, see ``workflow.programs``.
    """

    name: str
    about: str
    score: Scorer
    problem: Callable[[str], str | None]
    metrics: tuple[str, ...] = (METRIC,)
    stop_strings: tuple[str, ...] = ()
    runs_programs: bool = False


def by_finding(
    find: Callable[[str], str | None], matches: Callable[[str | None, str], bool]
) -> Scorer:
    """Score by what is found in a text.

    Args:
        find: the answer in a text that a model generated, written so that equal answers are equal
            texts; None if there is none.
        matches: ``(found, gold)`` -> whether the one is the other.
    """

    def score(question: Question, response: Response) -> Score:
        found = find(response.texts[0])
        return Score(values={METRIC: float(matches(found, question.gold))}, answer=found)

    return each(score, (METRIC,))


def by_looking(matches: Callable[[str, str], bool]) -> Scorer:
    """Score by whether a whole text is right; it has no answer that could be voted on.

    Args:
        matches: ``(text, gold)`` -> whether it is.
    """

    def score(question: Question, response: Response) -> Score:
        return Score(values={METRIC: float(matches(response.texts[0], question.gold))})

    return each(score, (METRIC,))
