"""What an example is, and how one row of a file becomes one; every fault names its place.

A row is ``{"prompt": ..., "completion": ...}`` or ``{"messages": [{"role": ..., "content": ...},
...]}``, optionally with ``id``, ``answer`` (the short answer to check, for example the final
number), ``group`` (what results are also given by, for example a subject) and ``weight``. Other
keys are left alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lorafuse_jax.types import UserError

ROLES = ("system", "user", "assistant")
NOT_TRAINED_ON = ("tool_calls", "function_call", "tool_call_id", "reasoning_content", "weight")
"""Keys of a turn that other tools give a meaning, and that would be lost here."""


class Turn(NamedTuple):
    """One message of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One prompt and its reference completion, or a chat.

    Attributes:
        id: unique in its split.
        prompt: what the model is given, without any template; of a chat all before its last turn.
        completion: what it should say; of a chat the last turn.
        answer: the short answer that is checked; None if there is none.
        where: file and line, for messages.
        weight: of its tokens in the loss, from 0 (trains nothing) upwards.
        turns: the chat that the example came as; empty for prompt and completion.
        group: what results are also given by; "" is none.
    """

    id: str
    prompt: str
    completion: str
    answer: str | None
    where: str
    weight: float = 1.0
    turns: tuple[Turn, ...] = ()
    group: str = ""

    @property
    def chat(self) -> tuple[Turn, ...]:
        """The example as turns, whichever form it came in."""
        return self.turns or (Turn("user", self.prompt), Turn("assistant", self.completion))

    @property
    def opening(self) -> str:
        """All before the first answer: the prompt, or how a chat begins."""
        if not self.turns:
            return self.prompt
        first = next(n for n, turn in enumerate(self.turns) if turn.role == "assistant")
        return _joined(self.turns[:first])


def example_from_row(row: Any, where: str, number: str) -> Example:
    """One example.

    Args:
        row: what the line holds; a key whose value is null is as good as absent.
        where: file and line.
        number: of the line, the id where the row has none.

    Raises:
        UserError: the row is not what it should be.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a line must be a JSON object, this is a {type(row).__name__}")
    row = {key: value for key, value in row.items() if value is not None}
    for key in ("answer", "group"):
        if not isinstance(row.get(key, ""), str | int | float):
            raise UserError(f"{where}: {key!r} must be text or a number, it is {row[key]!r}")
    answer = row.get("answer")
    turns: tuple[Turn, ...] = ()
    if "messages" in row:
        both = [key for key in ("prompt", "completion") if key in row]
        if both:
            raise UserError(
                f"{where}: has both 'messages' and {both[0]!r}; a line is either a chat or a "
                "prompt with its completion, remove one of them"
            )
        turns = _turns(row["messages"], where)
        prompt, completion = _joined(turns[:-1]), turns[-1].content
    else:
        prompt, completion = (_text(row, key, where) for key in ("prompt", "completion"))
    return Example(
        id=str(row.get("id", number)),
        prompt=prompt,
        completion=completion,
        answer=None if answer is None else str(answer),
        where=where,
        weight=_weight(row.get("weight", 1), where),
        turns=turns,
        group=str(row.get("group", "")),
    )


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    if key not in row:
        raise UserError(f"{where}: no {key!r}; the line has {', '.join(row) or 'no keys'}")
    if not isinstance(row[key], str) or not row[key].strip():
        raise UserError(f"{where}: {key!r} must be text that is not empty, it is {row[key]!r}")
    return row[key].strip()


def _weight(weight: Any, where: str) -> float:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight < 0:
        raise UserError(f"{where}: 'weight' must be a number from 0 upwards, it is {weight!r}")
    return float(weight)


def _turns(messages: Any, where: str) -> tuple[Turn, ...]:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UserError(
            f"{where}: 'messages' must be a list of turns, "
            '{"role": "user", "content": "..."} and so on; it is ' + repr(messages)
        )
    turns = tuple(_turn(one, f"{where}, turn {n}") for n, one in enumerate(messages, start=1))
    for number, turn in enumerate(turns[1:], start=2):
        if turn.role == "system":
            raise UserError(f"{where}, turn {number}: a system turn can only be the first")
    if all(turn.role != "assistant" for turn in turns):
        raise UserError(f"{where}: no assistant turn, so there is nothing to learn; add the answer")
    if turns[-1].role != "assistant":
        raise UserError(
            f"{where}: the last turn is the {turns[-1].role}'s; nothing is learnt after the last "
            "assistant turn, remove what follows it"
        )
    if turns[0].role == "assistant":
        raise UserError(f"{where}: the chat begins with an answer; add the user turn before it")
    return turns


def _turn(one: Any, where: str) -> Turn:
    if not isinstance(one, Mapping):
        raise UserError(f"{where}: must be an object with role and content, it is {one!r}")
    role, content = one.get("role"), one.get("content")
    if role not in ROLES:
        keys = "" if "role" in one else f" (its keys are {', '.join(one)})"
        raise UserError(f"{where}: the role must be {', '.join(ROLES)}; it is {role!r}{keys}")
    if not isinstance(content, str) or not content.strip():
        raise UserError(f"{where}: 'content' must be text that is not empty, it is {content!r}")
    lost = [key for key in NOT_TRAINED_ON if one.get(key) not in (None, [], "")]
    if lost:
        raise UserError(
            f"{where}: {lost[0]!r} is not supported in a turn, and is not left out silently; a "
            "turn is role and content, and 'weight' belongs to the line"
        )
    return Turn(role, content.strip())


def _joined(turns: Sequence[Turn]) -> str:
    return "\n\n".join(turn.content for turn in turns)
