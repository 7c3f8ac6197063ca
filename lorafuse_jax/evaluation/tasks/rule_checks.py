"""What IFEval and IFBench have in common: prompts with instructions that a program checks."""

import re
from collections.abc import Callable, Mapping, Sequence
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
from lorafuse_jax.evaluation.checkers.instructions import (
    METRICS,
    Instruction,
    Rules,
    build,
    score_instructions,
)
from lorafuse_jax.types import UserError

GENERATED = Decoding(max_new_tokens=1280)
"""Greedy, as in lm-eval's ifeval 4.0."""


def rule_benchmark(
    *, name: str, about: str, licence: str, source: Source, rules: Callable[[], Rules]
) -> Benchmark:
    """A benchmark of prompts with instructions; ``rules`` may raise UserError for its library."""
    return Benchmark(
        name=name,
        version=1,
        about=about,
        licence=licence,
        source=source,
        columns=("prompt", "instruction_id_list", "kwargs"),
        conventions={
            "chat": _convention("the prompt as a user's turn", "chat"),
            "plain": _convention("the prompt as it stands", "plain"),
            "trained": _convention("the template that the run was trained with", "trained"),
        },
        pose=partial(_pose, rules),
        score=partial(_score, rules),
        metrics=METRICS,
    )


def _convention(about: str, framing) -> Convention:
    def prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
        return row["prompt"]

    return Convention(about=about, prompt=prompt, decoding=GENERATED, framing=framing)


def _pose(
    rules: Callable[[], Rules],
    row: Row,
    convention: Convention,
    shots: Sequence[Mapping[str, Any]],
) -> Question:
    known, value = rules(), row.value
    names, settings = value["instruction_id_list"], value["kwargs"]
    try:
        if not names:
            raise ValueError("there are no instructions")
        for rule in build(known, names, settings, value["prompt"]):
            _try(rule)
    except Exception as error:  # rules check their settings in ways of their own
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"{row.where}: its instructions cannot be checked ({problem})") from None
    given = [{k: v for k, v in (one or {}).items() if known.is_set(v)} for one in settings]
    return Question(
        id=str(value.get("key", row.number)),
        where=row.where,
        prompt=convention.prompt(value, shots),
        gold={"instructions": list(names), "settings": given},
    )


def _try(rule: Instruction) -> None:
    """Raise what a rule raises that lacks data of NLTK's; other complaints are about the text."""
    try:
        rule.check_following("One word. Two words.")
    except LookupError as error:
        if type(error) is LookupError:
            wanted = re.search(r"nltk.download\('(\w+)'\)", str(error))
            name = wanted[1] if wanted else str(error)
            raise LookupError(f"python -m nltk.downloader {name} gets what is missing") from None
    except Exception:
        return


def _score(
    rules: Callable[[], Rules], questions: Sequence[Question], responses: Sequence[Response]
) -> Sequence[Score]:
    return each(partial(score_instructions, rules()), METRICS)(questions, responses)
