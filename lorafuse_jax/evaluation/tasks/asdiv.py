"""ASDiv (2106.15772): 2,305 word problems of elementary school."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from lorafuse_jax.evaluation.final_number import FORMS, after_mark
from lorafuse_jax.evaluation.tasks import word_problems
from lorafuse_jax.evaluation.tasks.word_problems import HARNESS_TOKENS, METRICS
from lorafuse_jax.types import UserError

TRAINED = replace(word_problems.TRAINED, decoding=Decoding(HARNESS_TOKENS))
"""The references are numbers alone: answers that are worked out are longer."""


def _pose(row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]) -> Question:
    value = row.value
    gold = str(value["answer"]).split(" (")[0].strip()
    if not gold:
        raise UserError(f"{row.where}: the answer {value['answer']!r} is empty; mend the line")
    asked = f"{value['body']} {value['question']}".strip()
    problem = {**value, "question": asked, "answer": f"#### {gold}"}
    return word_problems.question_of(row, problem, gold, convention, shots)


def _score(question: Question, response: Response) -> Score:
    """Numbers as in GSM8K; some of the answers are words, times, ratios, compared as text."""
    if FORMS[question.form].gold(question.gold) is not None:
        return word_problems.score(question, response)
    lines = (after_mark(response.texts[0]) or "").strip(" :").splitlines()
    found = _plain(lines[0]) if lines else None
    right = float(found == _plain(question.gold))
    return Score(values=dict.fromkeys(METRICS, right), answer=found)


def _plain(text: str) -> str:
    """Without case, spacing and the closing full stop."""
    return " ".join(text.lower().split()).rstrip(".")


BENCHMARK = Benchmark(
    name="asdiv",
    version=1,
    about="2,305 elementary word problems (2106.15772), also those that the data set asdiv trains "
    "on: asdiv/test asks others; without a hub that is taken",
    licence="CC BY-NC 4.0",
    source=Source(
        hub="EleutherAI/asdiv",
        split="validation",
        asset="asdiv",
        asset_split="test",
        from_asset=lambda row: {
            "id": row["id"],
            "body": "",
            "question": row["prompt"],
            "answer": row["answer"],
        },
    ),
    columns=("body", "question", "answer"),
    conventions={
        "trained": TRAINED,
        "8-shot-cot": word_problems.CHAIN_OF_THOUGHT,
    },
    pose=_pose,
    score=each(_score, METRICS),
    metrics=METRICS,
)
