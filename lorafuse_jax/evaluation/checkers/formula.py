"""Answers in LaTeX or plain mathematics, compared by math-verify."""

from collections.abc import Sequence

from lorafuse_jax.evaluation.benchmark import Question, Response, Score, each
from lorafuse_jax.evaluation.checkers.checker import METRIC, Checker
from lorafuse_jax.evaluation.latex.symbolic import Symbolic, check_installed
from lorafuse_jax.worked import braces_match


def score(questions: Sequence[Question], responses: Sequence[Response]) -> Sequence[Score]:
    """By what math-verify finds in each text; one process for all."""
    with Symbolic() as symbolic:

        def one(question: Question, response: Response) -> Score:
            verdict = symbolic.verify(question.gold, response.texts[0])
            values = {METRIC: float(verdict.right)}
            return Score(values=values, answer=verdict.answer, fault=verdict.fault)

        return each(one, (METRIC,))(questions, responses)


def _problem(gold: str) -> str | None:
    check_installed()
    from math_verify import parse  # noqa: PLC0415 (of an extra)

    if braces_match(gold) and any(not isinstance(found, str) for found in parse(f"${gold}$")):
        return None
    return f"the answer {gold!r} is no mathematics that sympy can read"


CHECKER = Checker(
    name="math",
    about="mathematics, in LaTeX or not, equal by math-verify",
    score=score,
    problem=_problem,
)
