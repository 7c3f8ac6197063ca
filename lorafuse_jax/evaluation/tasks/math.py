"""MATH (2103.03874), 5,000 competition problems, and 500 of them (2305.20050)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Question,
    Response,
    Row,
    Score,
    Source,
    each,
)
from lorafuse_jax.evaluation.final_number import after_mark
from lorafuse_jax.evaluation.latex import hendrycks, minerva
from lorafuse_jax.evaluation.latex.symbolic import Symbolic, check_installed
from lorafuse_jax.evaluation.tasks.minerva_examples import EXAMPLES
from lorafuse_jax.evaluation.tasks.word_problems import (
    HARNESS_TOKENS,
    METAMATH_STOPS,
    metamath_prompt,
    shown,
)
from lorafuse_jax.types import UserError
from lorafuse_jax.worked import MATH_SUBJECTS, SAID, braces_match, in_box

METRICS = ("math_verify", "string")
WORD = re.compile(r"[A-Za-z]{2}")
SAID_FORM, MINERVA_FORM, ANY_FORM = "The answer is: x", "The final answer is x. I hope", "box"


def _minerva_prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    del shots  # the examples are always the same
    examples = [(_asked(problem), solution) for problem, solution in EXAMPLES]
    return shown(examples, _asked(row["problem"]))


def _asked(problem: str) -> str:
    return f"Problem:\n{problem}\n\nSolution:"


METAMATH = Convention(
    about="MetaMath's eval_math.py: Alpaca's prompt, no examples; string is of 'The answer is: x'",
    prompt=lambda row, shots: metamath_prompt(row["problem"]),
    decoding=Decoding(2048, METAMATH_STOPS),
    form=SAID_FORM,
)
MINERVA = Convention(
    about="lm-eval's minerva_math: four fixed examples; string is its exact_match",
    prompt=_minerva_prompt,
    decoding=Decoding(HARNESS_TOKENS, ("Problem:",)),
    form=MINERVA_FORM,
)
TRAINED = Convention(
    about="the template that the run was trained with; string is of the last box, or of what is "
    "said to be the answer",
    prompt=lambda row, shots: row["problem"],
    decoding=Decoding(max_new_tokens=None),
    framing="trained",
    reference=lambda row: row["solution"],
    form=ANY_FORM,
)


def _pose(row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]) -> Question:
    check_installed(latex_of_sympy=convention.form == MINERVA_FORM)
    value = row.value
    gold = str(value.get("answer") or in_box(str(value["solution"])) or "").strip()
    if not gold:
        raise UserError(
            f"{row.where}: no answer to compare with: neither 'answer', nor a \\boxed{{...}} in "
            "the solution; mend the line"
        )
    if not braces_match(gold):
        raise UserError(f"{row.where}: the braces of the answer {gold!r} do not match; mend it")
    subject = str(value.get("subject") or value.get("type") or "")
    slug = "".join(c if c.isalnum() else "_" for c in subject.lower())
    return Question(
        id=str(value.get("unique_id") or value.get("id") or f"{slug}-{row.number}".strip("-")),
        where=row.where,
        prompt=convention.prompt(value, shots),
        gold=gold,
        references=() if convention.reference is None else (convention.reference(value),),
        group=subject,
        form=convention.form,
    )


def _score_all(questions: Sequence[Question], responses: Sequence[Response]) -> Sequence[Score]:
    with Symbolic() as symbolic:
        return each(partial(_score, symbolic), METRICS)(questions, responses)


def _score(symbolic: Symbolic, question: Question, response: Response) -> Score:
    text = response.texts[0]
    verdict = symbolic.verify(question.gold, _readable(question.form, text))
    string, fault = _STRINGS[question.form](symbolic, question.gold, text)
    return Score(
        values={"math_verify": float(verdict.right), "string": float(string)},
        answer=verdict.answer,
        fault=verdict.fault or fault,
    )


def _readable(form: str, text: str) -> str:
    """The text for math-verify, which reads LaTeX in dollars and boxes only, but not bare."""
    if form == MINERVA_FORM or in_box(text) is not None:
        return text
    answer = _after_said(text) if form == SAID_FORM else _after_any(text)
    dollars = "$" in (answer or "").replace("\\$", "")
    bare = answer and not dollars and ("\\" in answer or not WORD.search(answer))
    return f"${answer}$" if bare else text


def _after_said(text: str) -> str | None:
    """MetaMath: after the last ``The answer is: ``, up to the end of the sentence and line."""
    _, mark, after = text.rpartition(SAID)
    return after.split(".\n")[0].strip().removesuffix(".").strip() if mark else None


def _after_any(text: str) -> str | None:
    """The line after the last ``####`` or ``The answer is``, without dollars around it."""
    lines = (after_mark(text) or "").strip(" :$").splitlines()
    return lines[0].strip().rstrip(".").strip("$ ") if lines else None


def _said(symbolic: Symbolic, gold: str, text: str) -> tuple[bool, None]:
    answer = _after_said(text)
    return answer is not None and hendrycks.equal(answer, gold), None


def _minerva(symbolic: Symbolic, gold: str, text: str) -> tuple[bool, str | None]:
    """lm-eval: equal once normalised, or their difference is nothing."""
    answer, wanted = (minerva.canonical(one) for one in (minerva.final_answer(text), gold))
    if answer == wanted != "":
        return True, None
    verdict = symbolic.equal(answer, wanted)
    return verdict.right, verdict.fault


def _any(symbolic: Symbolic, gold: str, text: str) -> tuple[bool, None]:
    answer = in_box(text) or _after_any(text)
    return answer is not None and hendrycks.equal(answer, gold), None


_STRINGS = {SAID_FORM: _said, MINERVA_FORM: _minerva, ANY_FORM: _any}

MATH = Benchmark(
    name="math",
    version=1,
    about="5,000 competition problems of seven subjects (2103.03874), in turn",
    licence="MIT",
    source=Source(hub="EleutherAI/hendrycks_math", configs=MATH_SUBJECTS),
    columns=("problem", "solution"),
    conventions={"metamath": METAMATH, "minerva": MINERVA, "trained": TRAINED},
    pose=_pose,
    score=_score_all,
    metrics=METRICS,
)
MATH_500 = replace(
    MATH,
    name="math-500",
    about="500 problems of MATH (2305.20050)",
    source=Source(hub="HuggingFaceH4/MATH-500"),
)
