"""The byte-level BPE tokenizer inside a GGUF, as a Hugging Face tokenizer."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONTROL = 3
"""GGUF's type of a token that stands for no text (``<|im_end|>``)."""


def write_tokenizer(metadata: dict, folder: Path) -> None:
    """Write tokenizer.json and its configuration, chat template included.

    SmolLM2 splits numbers into digits before merging; the GGUF only names that by a label, and
    readers that overlook it tokenise every number otherwise than the model was trained.
    """
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
    fast.chat_template = metadata["tokenizer.chat_template"]
    fast.save_pretrained(folder)
