"""A chat under the tokenizer's own template, and which of its characters the model has to write.

The text before an answer is what the template gives for the turns so far with its generation
prompt; the answer is what follows, up to and including the token that ends the turn. A template
whose text for the first turns changes when turns are added would teach other contexts than those
that answers are later generated in, so it is refused.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError

from lorafuse_jax.data.rows import Turn
from lorafuse_jax.types import UserError

STAND_IN = "an-answer-that-no-template-writes"


class RenderedChat(NamedTuple):
    """Text of a chat up to the end of its last answer.

    Attributes:
        text: what is tokenised; it has its own begin token.
        answers: first character of each answer, and the one after its last.
        is_ended: whether the last answer ends with a token for it; else the end-of-text token has
            to be added.
    """

    text: str
    answers: tuple[tuple[int, int], ...]
    is_ended: bool


def render_chat(turns: Sequence[Turn], tokenizer: Any, where: str) -> RenderedChat:
    """The chat as text.

    Args:
        turns: the last is an answer.
        tokenizer: with a chat template.
        where: file and line, for messages.

    Raises:
        UserError: the template refuses the chat, changes what an answer says, is not
            prefix-consistent, or does not end answers before the last.
    """
    whole = _apply(turns, tokenizer, where)
    ends_turn = _special_tokens(tokenizer)
    answers = []
    is_ended = True
    for number, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        asked = _apply(turns[:number], tokenizer, where, add_generation_prompt=True)
        if not whole.startswith(asked):
            raise UserError(
                f"{where}: under the tokenizer's chat template, the text before turn {number + 1} "
                f"is not the same with the answer as without it: {_difference(asked, whole)}. "
                "Training would differ from generation; use another --template, or a tokenizer "
                "whose chat template only appends"
            )
        after = _end_of_answer(turns, number, whole, len(asked), tokenizer, where)
        closing = re.compile(rf"\s*({ends_turn})").match(whole, after)
        is_ended = closing is not None
        if not is_ended and number + 1 < len(turns):
            raise UserError(
                f"{where}: the chat template ends an answer with "
                f"{whole[after : after + 12]!r}, not with a special token, so that a model cannot "
                "learn to stop; chats of several turns need a template that does"
            )
        answers.append((len(asked), closing.end() if closing else after))
    return RenderedChat(whole[: answers[-1][1]], tuple(answers), is_ended)


def _end_of_answer(
    turns: Sequence[Turn], number: int, whole: str, start: int, tokenizer: Any, where: str
) -> int:
    """Where the words of an answer end; a template may put something before them."""
    content = turns[number].content
    if whole.startswith(content, start):
        return start + len(content)
    other = [*turns[:number], Turn("assistant", STAND_IN), *turns[number + 1 :]]
    header = _apply(other, tokenizer, where)[start:].partition(STAND_IN)[0]
    if not whole.startswith(header + content, start):
        raise UserError(
            f"{where}: the chat template changes what turn {number + 1} says: "
            f"{_difference(content, whole[start:])}; use another --template"
        )
    return start + len(header) + len(content)


def _apply(turns: Sequence[Turn], tokenizer: Any, where: str, **settings: Any) -> str:
    messages = [turn._asdict() for turn in turns]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **settings)
    except (TemplateError, ValueError, TypeError) as error:
        raise UserError(f"{where}: the tokenizer's chat template refuses it ({error})") from None


def _special_tokens(tokenizer: Any) -> str:
    """A pattern for the tokens that stand for no text; one that matches nothing if none do."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens = added | set(tokenizer.all_special_tokens)
    return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)"


def _difference(expected: str, found: str) -> str:
    """Where two texts part, in few words."""
    same = next(
        (n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b),
        min(len(expected), len(found)),
    )
    part = slice(max(0, same - 10), same + 20)
    return f"{expected[part]!r} became {found[part]!r}"
