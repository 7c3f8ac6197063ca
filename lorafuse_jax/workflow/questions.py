"""Questions as token ids, and as the requests that decoding takes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lorafuse_jax.data.encode import encode_all
from lorafuse_jax.data.rows import Example, Turn
from lorafuse_jax.data.templates import CHAT
from lorafuse_jax.evaluation.benchmark import Decoding, Framing, Question
from lorafuse_jax.generation.request import Request, samples
from lorafuse_jax.models.hub import Model
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmarks import Posed

NOTHING = "."
"""Stands for an answer where only the prompt is wanted: a chat template asks for one."""


class Pair(NamedTuple):
    """A prompt and a text after it, as token ids; the text may be empty."""

    prompt: np.ndarray
    reference: np.ndarray


def requests_of(posed: Posed, model: Model, template: str) -> list[list[Request]]:
    """For each question the requests that answer it: the samples first, then the references.

    The first reference goes along with the first sample.

    Args:
        posed: the questions.
        model: gives tokenizer and context length.
        template: that of the run, for conventions that are framed as trained.

    Raises:
        UserError: a question does not fit the model's context, or the tokenizer lacks a chat
            template that the convention needs.
    """
    framing = posed.convention.framing
    if framing == "chat" and not getattr(model.tokenizer, "chat_template", None):
        raise UserError(f"{posed.label}: {model.path} has no chat template; use another convention")
    decoding, context = posed.convention.decoding, model.config.context_length
    most = decoding.max_new_tokens
    # Of all questions, so that an answer is not cut elsewhere when more of them are asked.
    pairs = _pairs(posed.every if most is None else posed.questions, framing, model, template)
    if most is None:
        longest = max((len(pair.reference) for own in pairs for pair in own), default=0)
        most = math.ceil(1.25 * longest)
    asked = pairs[: len(posed.questions)]
    if framing != "rolling":
        for question, own in zip(posed.questions, asked, strict=True):
            _check_length(question, own, context)
    return [_requests(own, number, decoding, most, context) for number, own in enumerate(asked)]


def _pairs(
    questions: Sequence[Question], framing: Framing, model: Model, template: str
) -> list[list[Pair]]:
    if framing == "rolling":
        return [_windows(question, model, model.config.context_length) for question in questions]
    if framing == "plain":
        return [_plain(question, model.tokenizer) for question in questions]
    return _framed(questions, model.tokenizer, CHAT if framing == "chat" else template)


def _requests(
    pairs: list[Pair], number: int, decoding: Decoding, most: int, context: int
) -> list[Request]:
    scored = [Request(pair.prompt, 0, pair.reference) for pair in pairs if len(pair.reference)]
    if not most:
        return scored
    prompt = pairs[0].prompt
    asked = Request(
        prompt=prompt,
        max_new_tokens=min(most, context - len(prompt)),
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        seed=number,
        stop_strings=decoding.stop_strings,
    )
    answered = samples(asked, decoding.samples) if decoding.temperature else [asked]
    if scored:
        answered[0] = answered[0]._replace(reference=scored[0].reference)
    return answered + scored[1:]


def _plain(question: Question, tokenizer: Any) -> list[Pair]:
    """Prompt and continuation tokenised together, as lm-eval does (``TemplateLM._encode_pair``).

    Spaces at the end of the prompt belong to the continuation.
    """
    prompt = tokenizer(question.prompt)["input_ids"]
    if not question.references:
        return [Pair(np.array(prompt, np.int32), np.zeros(0, np.int32))]
    context = question.prompt.rstrip()
    spaces = question.prompt[len(context) :]
    before = tokenizer(context)["input_ids"]
    pairs = []
    for reference in question.references:
        whole = tokenizer(context + spaces + reference)["input_ids"]
        pairs.append(Pair(np.array(before, np.int32), np.array(whole[len(before) :], np.int32)))
    return pairs


def _windows(question: Question, model: Model, context: int) -> list[Pair]:
    """All of the reference's tokens, each predicted once, after a begin token.

    As lm-eval does: full windows are predicted from the token before them, the last one, which is
    shorter, from as much as the context holds (``make_disjoint_window`` of
    ``get_rolling_token_windows``). Unlike there, a tokenizer that adds a begin token does not make
    the model predict it.
    """
    tokenizer, (text,) = model.tokenizer, question.references
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if begin is None:
        raise UserError(f"{model.path}: its tokenizer has no token to begin a text with")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = np.array([begin, *ids], np.int32)
    windows = []
    for start in range(1, len(tokens), context):
        end = min(start + context, len(tokens))
        windows.append(Pair(tokens[max(0, end - context - 1) : start], tokens[start:end]))
    return windows


def _framed(questions: Sequence[Question], tokenizer: Any, template: str) -> list[list[Pair]]:
    examples = [
        _example(question, reference)
        for question in questions
        for reference in question.references or (NOTHING,)
    ]
    encoded = iter(encode_all(examples, tokenizer, template))
    nothing = np.zeros(0, np.int32)
    return [
        [Pair((one := next(encoded)).prompt, one.completion) for _ in question.references]
        or [Pair(next(encoded).prompt, nothing)]
        for question in questions
    ]


def _example(question: Question, reference: str) -> Example:
    turns = tuple(Turn(*turn) for turn in question.turns)
    if turns:
        turns = (*turns, Turn("assistant", reference))
    return Example(question.id, question.prompt, reference, None, question.where, turns=turns)


def _check_length(question: Question, pairs: list[Pair], context: int) -> None:
    for prompt, reference in pairs:
        if len(prompt) + max(1, len(reference)) > context:
            raise UserError(
                f"{question.where}: example {question.id} has {len(prompt)} tokens of prompt and "
                f"{len(reference)} of reference, the model's context is {context}; leave it out, "
                "or ask in a convention with fewer worked examples"
            )
        if not len(prompt):
            raise UserError(f"{question.where}: example {question.id} has an empty prompt")
