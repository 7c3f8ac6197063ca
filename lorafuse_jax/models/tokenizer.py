"""The tokenizer of a model folder, or inside a GGUF file."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lorafuse_jax.types import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")

CONTROL = 3
"""GGUF's type of a token that stands for no text (``<|im_end|>``)."""


def load_tokenizer(folder: Path) -> Any:
    """Of a folder.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    # Without this check, transformers may make an empty tokenizer that encodes all text to nothing.
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder} has no tokenizer (none of {', '.join(TOKENIZER_FILES)}); save it there with "
            "tokenizer.save_pretrained(folder)"
        )
    return _from_pretrained(folder)


def gguf_tokenizer(file: Path, metadata: dict[str, Any]) -> Any:
    """Of a GGUF file.

    SmolLM splits numbers into digits before merging; the file only names that by a label, and
    transformers overlooks it, so that every number would be tokenised otherwise than in training.

    Raises:
        UserError: it cannot be loaded.
    """
    if metadata.get("tokenizer.ggml.pre") == "smollm":
        return _smollm(metadata)
    return _from_pretrained(file.parent, gguf_file=file.name)


def _from_pretrained(folder: Path, **settings: Any) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **settings)
    except Exception as error:  # transformers and tokenizers raise whatever they meet
        where = folder / settings.get("gguf_file", "")
        raise UserError(
            f"{where}: transformers cannot load its tokenizer ({type(error).__name__}: {error})"
        ) from error


def _smollm(metadata: dict[str, Any]) -> PreTrainedTokenizerFast:
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        AddedToken(token, special=True, normalized=False)
        for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True)
        if kind == CONTROL
    ]
    tokenizer.add_special_tokens(special)
    name = lambda key: tokens[metadata[f"tokenizer.ggml.{key}"]]  # noqa: E731
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=name("bos_token_id"),
        eos_token=name("eos_token_id"),
        unk_token=name("unknown_token_id"),
        pad_token=name("padding_token_id"),
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = metadata.get("tokenizer.chat_template")
    return fast
