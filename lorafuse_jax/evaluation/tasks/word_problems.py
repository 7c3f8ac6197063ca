"""What the benchmarks of word problems have in common: prompts, and strict and flexible scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax import prompts
from lorafuse_jax.evaluation.benchmark import (
    Convention,
    Decoding,
    Question,
    Response,
    Row,
    Score,
)
from lorafuse_jax.evaluation.final_number import FORMS, cleaned, flexible
from lorafuse_jax.evaluation.tasks.wei_examples import EXAMPLES
from lorafuse_jax.types import UserError
from lorafuse_jax.worked import SAID, after_hashes, without_calculator

METRICS = ("strict", "flexible")
METAMATH_STOPS = tuple(
    f"{word}{end}"
    for word in ("Question", "USER", "ASSISTANT", "Instruction", "Response")
    for end in (":", "")
)
CLOSING = ("</s>", "<|im_end|>")
HARNESS_TOKENS = 256
"""What lm-eval lets a model say where a task does not say otherwise."""


def metamath_prompt(question: str) -> str:
    """MetaMath's zero-shot prompt."""
    return prompts.METAMATH.format(prompt=question)


def shown(examples: Sequence[tuple[str, str]], question: str) -> str:
    """Worked examples, each a question as put and its answer, and the question as put."""
    return "".join(f"{asked} {answer}\n\n" for asked, answer in examples) + question


def _chain_of_thought_prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    del shots  # the examples are always the same
    examples = [(f"Q: {question}\nA:", answer) for question, answer in EXAMPLES]
    return shown(examples, f"Q: {row['question']}\nA:")


METAMATH = Convention(
    about="MetaMath's eval_gsm8k.py: Alpaca's prompt, no examples; strict is 'The answer is: n'",
    prompt=lambda row, shots: metamath_prompt(row["question"]),
    decoding=Decoding(512, METAMATH_STOPS),
    reference=lambda row: f"{without_calculator(row['answer'])}\n{SAID}{_number(row)}",
    form="The answer is: n",
)
CHAIN_OF_THOUGHT = Convention(
    about="lm-eval's gsm8k_cot: eight fixed examples; strict is 'The answer is n.'",
    prompt=_chain_of_thought_prompt,
    decoding=Decoding(HARNESS_TOKENS, ("Q:", *CLOSING)),
    form="The answer is n.",
)
TRAINED = Convention(
    about="the template that the run was trained with; strict is a number after '####' or "
    "'The answer is'",
    prompt=lambda row, shots: row["question"],
    decoding=Decoding(max_new_tokens=None),
    framing="trained",
    reference=lambda row: without_calculator(row["answer"]),
    form="either",
)


def pose(row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]) -> Question:
    """A row with ``question`` and ``answer``, the worked one that ends in ``#### n``.

    Raises:
        UserError: there is no such end, or no answer in the convention's form could equal it.
    """
    gold = _number(row.value)
    if gold is None:
        raise UserError(f"{row.where}: the answer does not end in '#### n', which is compared")
    if FORMS[convention.form].gold(gold) is None:
        kind = "whole number" if convention.form == "The answer is: n" else "number"
        raise UserError(
            f"{row.where}: the answer after '####' is {gold!r}, which is no {kind}, so nothing "
            "could equal it; mend the line"
        )
    return question_of(row, row.value, gold, convention, shots)


def question_of(
    row: Row,
    value: Mapping[str, Any],
    gold: str,
    convention: Convention,
    shots: Sequence[Mapping[str, Any]],
) -> Question:
    """The question of a row whose ``question`` and ``answer`` are in ``value``."""
    reference = convention.reference
    return Question(
        id=str(value.get("id", row.number)),
        where=row.where,
        prompt=convention.prompt(value, shots),
        gold=gold,
        references=() if reference is None else (reference(value),),
        form=convention.form,
    )


def score(question: Question, response: Response) -> Score:
    """Strict: in the form that was asked for. Flexible: the last number, however it is put."""
    text, form = response.texts[0], FORMS[question.form]
    found = form.find(text)
    strict = found is not None and found == form.gold(question.gold)
    values = {"strict": strict, "flexible": flexible(text) == cleaned(question.gold)}
    return Score(values={name: float(value) for name, value in values.items()}, answer=found)


def _number(row: Mapping[str, Any]) -> str | None:
    return after_hashes(str(row["answer"]))
