"""How a prompt is put to a model: the named templates of plain text."""

from collections.abc import Callable

from lorafuse_jax.prompts import ALPACA, METAMATH

INPUT_MARK = "\n\n### Input:\n"
"""Stands in a prompt between an instruction and what it is about, as in Alpaca's data."""

ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "{prompt}\n\n### Response:"
)


def _qa(prompt: str, completion: str) -> tuple[str, str]:
    """The space belongs to the answer, where byte-level tokenizers merge it into the first word."""
    return f"Question: {prompt}\nAnswer:", f" {completion}"


def _alpaca(prompt: str, completion: str) -> tuple[str, str]:
    """Stanford Alpaca's two prompts; the completion follows the colon at once."""
    frame = ALPACA_WITH_INPUT if INPUT_MARK in prompt else ALPACA
    return frame.format(prompt=prompt), completion


def _metamath(prompt: str, completion: str) -> tuple[str, str]:
    """MetaMath's (2309.12284): Alpaca's, and the words that begin the answer."""
    return METAMATH.format(prompt=prompt), completion


def _function(prompt: str, completion: str) -> tuple[str, str]:
    """A Python function's beginning and the rest of its body, as in a file.

    The body's first line has no indentation of its own in data, whose ends are stripped; three of
    its four spaces are the prompt's, as byte-level tokenizers divide them.
    """
    return f"{prompt}\n   ", f" {completion}"


TEXT_TEMPLATES: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "qa": _qa,
    "alpaca": _alpaca,
    "metamath": _metamath,
    "function": _function,
}
"""Name -> (prompt, completion) -> text of both."""

CHAT = "chat"
"""The template that the tokenizer carries."""

TEMPLATES = ("qa", CHAT, "alpaca", "metamath", "function")
