"""The controlled world's decoder: a Llama of 1.8 million parameters, and its pretraining."""

import json
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from experiments.world.language import WORDS, Problem, draw, skill
from lorafuse_jax.formats.folder import new_folder
from lorafuse_jax.formats.hf_model import MODEL_FILE
from lorafuse_jax.formats.tensor_file import write_tensors
from lorafuse_jax.models.decoder import init_params
from lorafuse_jax.models.families import llama
from lorafuse_jax.models.hub import config_of_folder
from lorafuse_jax.models.weights import checkpoint_tensors
from lorafuse_jax.run_folder import write_atomically
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig

END = "<end>"
SHAPE = {
    "model_type": "llama",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
CHAT = (
    "{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'user' %} is {% else %} <end>{% endif %}{% endfor %}"
)
"""A question, ``is``, the answer."""


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    vocabulary = {word: number for number, word in enumerate((END, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=END, pad_token=END, unk_token=END, chat_template=CHAT
    )


def write_untrained(folder: Path, seed: int) -> Path:
    """A Hugging Face folder with random weights."""
    if folder.exists():
        return folder
    with new_folder(folder) as whole:
        words = tokenizer()
        words.save_pretrained(whole)
        described = SHAPE | {"vocab_size": len(words), "architectures": ["LlamaForCausalLM"]}
        (whole / "config.json").write_text(json.dumps(described, indent=1))
        _, config = config_of_folder(whole)
        params = init_params(config, jax.random.key(seed))
        write_tensors(whole / MODEL_FILE, dict(checkpoint_tensors(params, llama.WEIGHTS)))
    return folder


def write_rows(file: Path, problems: Iterable[Problem]) -> None:
    """Problems as training data, chats under the tokenizer's template."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": one.prompt},
                    {"role": "assistant", "content": one.completion},
                ]
            }
        )
        for one in problems
    ]
    write_atomically(file, "\n".join(lines) + "\n")


def pretrain(folder: Path, *, examples: int, at_once: int, learning_rate: float, seed: int) -> Path:
    """Train every parameter on single skills; returns the checkpoint's folder."""
    data = folder / "skills"
    if not (data / "validation.jsonl").exists():
        data.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, 0])
        held = draw(skill, rng, 600)
        kept = {one.prompt for one in held}
        write_rows(data / "train.jsonl", draw(skill, rng, examples, kept))
        write_rows(data / "validation.jsonl", held)
    run = train(
        TrainConfig(
            model=str(write_untrained(folder / "untrained", seed)),
            data=str(data),
            seeds=(seed,),
            method="full",
            learning_rate=learning_rate,
            examples_per_step=at_once,
            heldout_examples=600,
        ),
        folder / "pretraining",
    )
    return run.adapter_path(seed)
