"""Examples to token ids: which of them have a loss, and what happens to examples too long."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lorafuse_jax.data import token_cache
from lorafuse_jax.data.chat import RenderedChat, render_chat
from lorafuse_jax.data.rows import Example
from lorafuse_jax.data.templates import CHAT, TEMPLATES, TEXT_TEMPLATES
from lorafuse_jax.types import UserError

AT_ONCE = 1000
"""Examples that go to the tokenizer together."""


class Encoded(NamedTuple):
    """One example as token ids.

    Attributes:
        id: the example's.
        tokens: ids [T], int32.
        loss_weight: weight [T] of each token's loss, when it is predicted from those before it,
            float32; 0 where there is none: before and between answers, and always for the first.
        answer_start: where the last answer begins, with a loss or without.
    """

    id: str
    tokens: np.ndarray
    loss_weight: np.ndarray
    answer_start: int

    @classmethod
    def from_answer(
        cls, id: str, prompt: np.ndarray, completion: np.ndarray, weight: float = 1.0
    ) -> "Encoded":
        """A prompt, and a completion whose every token has a loss."""
        tokens = np.concatenate([prompt, completion]).astype(np.int32)
        return cls.from_spans(id, tokens, [(len(prompt), len(tokens))], weight)

    @classmethod
    def from_spans(
        cls, id: str, tokens: np.ndarray, answers: Sequence[tuple[int, int]], weight: float
    ) -> "Encoded":
        """Tokens, and where each answer begins and ends."""
        loss_weight = np.zeros(len(tokens), np.float32)
        for start, end in answers:
            loss_weight[max(start, 1) : end] = weight
        return cls(id, tokens, loss_weight, answers[-1][0])

    @property
    def prompt(self) -> np.ndarray:
        """All before the last answer."""
        return self.tokens[: self.answer_start]

    @property
    def completion(self) -> np.ndarray:
        """The last answer and the token that ends it."""
        return self.tokens[self.answer_start :]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.tokens)

    @property
    def num_losses(self) -> int:
        """Tokens with a loss."""
        return int(np.count_nonzero(self.loss_weight))


class EncodedSplit(NamedTuple):
    """What became of a split."""

    examples: list[Encoded]
    dropped: int


def encode(example: Example, tokenizer: Any, template: str) -> Encoded:
    """One example under a named template; see ``encode_all``."""
    return encode_all([example], tokenizer, template)[0]


def encode_all(examples: Sequence[Example], tokenizer: Any, template: str) -> list[Encoded]:
    """Examples under a named template.

    Under ``chat``, every assistant turn and the token that ends it have a loss. Under the others,
    the completion and the end-of-text token have; the begin token comes first where the tokenizer
    puts one before every text (a chat template writes its own). All losses of an example have the
    example's weight.

    The tokens before an answer are those that the text before it gives alone, as when generating:
    prompt and completion are tokenised apart; of a chat the whole, and where that gives other
    tokens before an answer, the pieces apart.

    Raises:
        UserError: no template of that name, or an example that does not fit it.
    """
    if template not in TEMPLATES:
        raise UserError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")
    one_chunk = _chats if template == CHAT else _texts
    encoded = []
    for start in range(0, len(examples), AT_ONCE):
        encoded += one_chunk(examples[start : start + AT_ONCE], tokenizer, template)
    return encoded


def _texts(examples: Sequence[Example], tokenizer: Any, template: str) -> list[Encoded]:
    begin = _begin_tokens(tokenizer)
    pairs = [TEXT_TEMPLATES[template](*_pair(example, template)) for example in examples]
    prompts = _ids(tokenizer, [prompt for prompt, _ in pairs])
    completions = _ids(tokenizer, [completion for _, completion in pairs])
    return [
        Encoded.from_answer(
            example.id,
            np.array([*begin, *prompt], np.int32),
            np.array([*completion, tokenizer.eos_token_id], np.int32),
            example.weight,
        )
        for example, prompt, completion in zip(examples, prompts, completions, strict=True)
    ]


def _pair(example: Example, template: str) -> tuple[str, str]:
    roles = [turn.role for turn in example.turns]
    if roles not in ([], ["user", "assistant"]):
        raise UserError(
            f"{example.where}: a chat of {len(roles)} turns ({', '.join(roles[:4])}) cannot be put "
            f"under the template {template!r}; use --template chat, and a model whose tokenizer "
            "has a chat template"
        )
    return example.prompt, example.completion


def _chats(examples: Sequence[Example], tokenizer: Any, template: str) -> list[Encoded]:
    rendered = [render_chat(one.chat, tokenizer, one.where) for one in examples]
    edges = [[edge for answer in chat.answers for edge in answer] for chat in rendered]
    texts = [chat.text[:e] for chat, own in zip(rendered, edges, strict=True) for e in own]
    prefixes = iter(_ids(tokenizer, texts))
    encoded = []
    for example, chat, own in zip(examples, rendered, edges, strict=True):
        parts = [next(prefixes) for _ in own]
        tokens = parts[-1]
        if any(tokens[: len(part)] != part for part in parts):
            parts = _apart(tokenizer, chat, own)
            tokens = parts[-1]
        ends = [len(part) for part in parts]
        if not chat.is_ended:
            tokens, ends[-1] = [*tokens, tokenizer.eos_token_id], ends[-1] + 1
        spans = list(zip(ends[::2], ends[1::2], strict=True))
        array = np.array(tokens, np.int32)
        encoded.append(Encoded.from_spans(example.id, array, spans, example.weight))
    return encoded


def _apart(tokenizer: Any, chat: RenderedChat, edges: list[int]) -> list[list[int]]:
    """Growing prefixes of a chat's tokens, each piece between two edges tokenised alone."""
    pieces = [chat.text[a:b] for a, b in zip([0, *edges], edges, strict=False)]
    prefixes: list[list[int]] = [[]]
    for piece in _ids(tokenizer, pieces):
        prefixes.append(prefixes[-1] + piece)
    return prefixes[1:]


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]


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
    cache: Path | None = None,
) -> EncodedSplit:
    """All examples of a split.

    Args:
        examples: what to encode.
        tokenizer: transformers' tokenizer; it must know its end-of-text token.
        template: a name from ``TEMPLATES``.
        max_length: most tokens of an example.
        overlong: raise for longer examples, or drop and count them.
        cache: folder where the result is kept by the hash of all that it depends on, and looked
            for first; None keeps nothing.

    Raises:
        UserError: an example is too long or does not fit the template, or none is left.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-text token, so answers could not end")
    key = None if cache is None else token_cache.key_of(examples, tokenizer, template, max_length)
    stored = None if cache is None or key is None else token_cache.load(cache, key)
    if stored is not None and (overlong == "drop" or len(stored.kept) == len(examples)):
        kept = _unpacked(stored, examples)
        return EncodedSplit(kept, len(examples) - len(kept))
    encoded = encode_all(examples, tokenizer, template)
    fits = [number for number, one in enumerate(encoded) if one.length <= max_length]
    if len(fits) < len(encoded) and overlong == "error":
        raise UserError(_too_long(examples, encoded, max_length))
    if not fits:
        raise UserError(f"no example has at most {max_length} tokens")
    kept = [encoded[number] for number in fits]
    if cache is not None and key is not None:
        token_cache.store(cache, key, _packed(kept, fits))
    return EncodedSplit(kept, len(encoded) - len(kept))


def _too_long(examples: Sequence[Example], encoded: Sequence[Encoded], max_length: int) -> str:
    lengths = [one.length for one in encoded]
    worst = int(np.argmax(lengths))
    return (
        f"{sum(length > max_length for length in lengths)} of {len(examples)} examples are longer "
        f"than {max_length} tokens; the longest, {examples[worst].where}, has {lengths[worst]}. "
        "Raise --max-length if the model allows it, or leave them out with --overlong drop"
    )


def _packed(encoded: Sequence[Encoded], kept: Iterable[int]) -> token_cache.Tokens:
    return token_cache.Tokens(
        kept=np.fromiter(kept, np.int64),
        lengths=np.array([one.length for one in encoded], np.int64),
        answer_starts=np.array([one.answer_start for one in encoded], np.int64),
        tokens=np.concatenate([one.tokens for one in encoded]),
        loss_weights=np.concatenate([one.loss_weight for one in encoded]),
    )


def _unpacked(stored: token_cache.Tokens, examples: Sequence[Example]) -> list[Encoded]:
    ends = np.cumsum(stored.lengths)
    return [
        Encoded(
            examples[number].id,
            stored.tokens[end - length : end],
            stored.loss_weights[end - length : end],
            int(start),
        )
        for number, length, start, end in zip(
            stored.kept, stored.lengths, stored.answer_starts, ends, strict=True
        )
    ]
