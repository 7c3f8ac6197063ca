"""Examples to token ids: prompt templates, and what happens to examples that are too long."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lorafuse_jax.data.examples import Example
from lorafuse_jax.types import UserError


class Encoded(NamedTuple):
    """One example as token ids; the completion ends with the end-of-text token.

    Prompt and completion are tokenised apart and their ids joined, when training and when testing
    alike, so that their boundary is the same in both.
    """

    id: str
    prompt: np.ndarray
    completion: np.ndarray

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.completion)


class EncodedSplit(NamedTuple):
    """What became of a split."""

    examples: list[Encoded]
    dropped: int


def _qa(prompt: str, completion: str, tokenizer: Any) -> tuple[str, str]:
    """The space belongs to the answer, where byte-level tokenizers merge it into the first word."""
    return f"Question: {prompt}\nAnswer:", f" {completion}"


def _chat(prompt: str, completion: str, tokenizer: Any) -> tuple[str, str]:
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return text, completion


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{prompt}\n\n### Response:"
)


def _alpaca(prompt: str, completion: str, tokenizer: Any) -> tuple[str, str]:
    """Stanford Alpaca's prompt without input; the completion follows the colon at once."""
    return ALPACA.format(prompt=prompt), completion


def _metamath(prompt: str, completion: str, tokenizer: Any) -> tuple[str, str]:
    """MetaMath's (2309.12284): Alpaca's, and the words that begin the answer."""
    return ALPACA.format(prompt=prompt) + " Let's think step by step.", completion


TEMPLATES: dict[str, Callable[[str, str, Any], tuple[str, str]]] = {
    "qa": _qa,
    "chat": _chat,
    "alpaca": _alpaca,
    "metamath": _metamath,
}
"""Name -> (prompt, completion, tokenizer) -> text of both."""


def encode(example: Example, tokenizer: Any, template: str) -> Encoded:
    """One example under a named template.

    The begin token comes first where the tokenizer puts one before every text; a chat template
    writes its own.

    Raises:
        UserError: no template of that name.
    """
    if template not in TEMPLATES:
        raise UserError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")
    prompt, completion = TEMPLATES[template](example.prompt, example.completion, tokenizer)
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    begin = [] if template == "chat" else _begin_tokens(tokenizer)
    return Encoded(
        example.id,
        np.array([*begin, *ids(prompt)], np.int32),
        np.array([*ids(completion), tokenizer.eos_token_id], np.int32),
    )


def _begin_tokens(tokenizer: Any) -> list[int]:
    begin = tokenizer.bos_token_id
    first = tokenizer("a")["input_ids"][:1]
    return [begin] if begin is not None and first == [begin] else []


def encode_split(
    examples: Sequence[Example],
    tokenizer: Any,
    template: str,
    *,
    max_length: int,
    overlong: Literal["error", "drop"] = "error",
) -> EncodedSplit:
    """All examples of a split.

    Args:
        examples: what to encode.
        tokenizer: transformers' tokenizer; it must know its end-of-text token.
        template: a name from ``TEMPLATES``.
        max_length: most tokens of prompt and completion together.
        overlong: raise for longer examples, or drop and count them.

    Raises:
        UserError: an example is too long, or none is left.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-text token, so answers could not end")
    encoded = [encode(example, tokenizer, template) for example in examples]
    long = [
        (one.length, example)
        for one, example in zip(encoded, examples, strict=True)
        if one.length > max_length
    ]
    if long and overlong == "error":
        length, worst = max(long, key=lambda pair: pair[0])
        raise UserError(
            f"{len(long)} of {len(examples)} examples are longer than {max_length} tokens; the "
            f"longest, {worst.where}, has {length}. Raise --max-length if the model allows it, or "
            "leave them out with --overlong drop"
        )
    kept = [one for one in encoded if one.length <= max_length]
    if not kept:
        raise UserError(f"no example has at most {max_length} tokens")
    return EncodedSplit(kept, len(long))
