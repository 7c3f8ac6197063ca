"""What benchmarks with a choice of answers have in common: the most likely one is the answer."""

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Framing,
    Question,
    Response,
    Row,
    Score,
    Source,
    each,
)
from lorafuse_jax.types import UserError

METRICS = ("acc", "acc_norm")
"""Of the most likely choice, and of that with the highest log-probability a character."""

DELIMITER = " "
"""What stands between a plain prompt and a choice, as in lm-eval (``target_delimiter``)."""

SCORED = Decoding(max_new_tokens=0)
"""Nothing is generated."""


class Item(NamedTuple):
    """A row that offers choices.

    Attributes:
        choices: as texts, at least two.
        right: the index of the right one.
        group: as of a question.
    """

    choices: Sequence[str]
    right: int
    group: str = ""


def choice_benchmark(
    *,
    name: str,
    about: str,
    licence: str,
    source: Source,
    columns: tuple[str, ...],
    item: Callable[[Mapping[str, Any]], Item],
    conventions: Mapping[str, Convention],
    metrics: tuple[str, ...] = METRICS,
    shots_by: str | None = None,
    version: int = 1,
) -> Benchmark:
    """A benchmark whose answers are chosen by their log-probability after the prompt.

    Source: ``ConfigurableTask.process_results`` of lm-eval 0.4.13 for ``multiple_choice``; of
    equally likely choices the first.

    Args:
        name: see Benchmark, as all that is not listed here.
        about: one line.
        licence: of the data.
        source: where rows come from.
        columns: that a row must have.
        item: a row's choices; may raise KeyError, TypeError or ValueError for a malformed one.
        conventions: their prompts.
        metrics: the first is what leaderboards compare by.
        shots_by: see Benchmark.
        version: of prompts and scorer.
    """
    return Benchmark(
        name=name,
        version=version,
        about=about,
        licence=licence,
        source=source,
        columns=columns,
        conventions=conventions,
        pose=partial(_pose, item),
        score=each(score_choices, metrics),
        metrics=metrics,
        shots_by=shots_by,
    )


def conventions_of(
    prompt: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str], about: str
) -> dict[str, Convention]:
    """lm-eval's prompt as it stands, and the same in a chat and in the run's template."""
    return {
        "lm-eval": Convention(about=about, prompt=prompt, decoding=SCORED),
        "chat": Convention(
            about="the same as a user's turn under the tokenizer's chat template",
            prompt=prompt,
            decoding=SCORED,
            framing="chat",
        ),
        "trained": Convention(
            about="the same in the template that the run was trained with",
            prompt=prompt,
            decoding=SCORED,
            framing="trained",
        ),
    }


def read_item(item: Callable[[Mapping[str, Any]], Any], row: Row) -> Any:
    """What ``item`` makes of a row.

    Raises:
        UserError: it cannot read the row, which has another form than the original's.
    """
    try:
        return item(row.value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{row.where}: the line has not the form of the original data set's ({problem})"
        ) from None


def as_index(label: Any) -> int:
    """A label as a number, which may be written as text.

    Raises:
        ValueError: a text that is no whole number.
        TypeError: nothing of the kind.
    """
    return int(label) if isinstance(label, str) else operator.index(label)


def references_of(choices: Sequence[str], framing: Framing, row: Row) -> tuple[str, ...]:
    """The choices as texts after the prompt.

    Raises:
        UserError: there are fewer than two, or one is no text or empty.
    """
    if len(choices) < 2:
        raise UserError(f"{row.where}: {len(choices)} choices; two or more are needed")
    for number, choice in enumerate(choices):
        if not isinstance(choice, str) or not choice.strip():
            raise UserError(f"{row.where}: choice {number} is {choice!r}; expected a text")
    if framing == "plain":
        return tuple(DELIMITER + choice for choice in choices)
    return tuple(choice.strip() for choice in choices)


def check_index(index: Any, count: int, row: Row) -> int:
    """The index of the right choice.

    Raises:
        UserError: there is no choice of that index.
    """
    if type(index) is not int or not 0 <= index < count:
        raise UserError(
            f"{row.where}: the right choice is {index!r}; expected an index from 0 to {count - 1}"
        )
    return index


def score_choices(question: Question, response: Response) -> Score:
    """Accuracy of one response; see ``METRICS``."""
    log_probs = np.array(response.log_probs)
    chosen = int(log_probs.argmax())
    norm = int((log_probs / lengths(question.references)).argmax())
    values = {"acc": float(chosen == question.gold), "acc_norm": float(norm == question.gold)}
    return Score(values=values, answer=str(chosen))


def lengths(references: Sequence[str]) -> np.ndarray:
    """Characters of each choice, the delimiter not counted; [choices]."""
    return np.array([float(len(text.removeprefix(DELIMITER))) for text in references])


def _pose(
    item: Callable[[Mapping[str, Any]], Item],
    row: Row,
    convention: Convention,
    shots: Sequence[Mapping[str, Any]],
) -> Question:
    found = read_item(item, row)
    prompt = read_item(lambda value: convention.prompt(value, shots), row)
    references = references_of(found.choices, convention.framing, row)
    return Question(
        id=str(row.value.get("id", row.number)),
        where=row.where,
        prompt=prompt,
        gold=check_index(found.right, len(references), row),
        references=references,
        group=found.group,
    )
