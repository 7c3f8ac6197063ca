"""Model and data of a run, found by path or name, checked before any long work."""

import json
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from lorafuse_jax.assets import ASSETS, fetch
from lorafuse_jax.assets.cache import cache_folder
from lorafuse_jax.data.encode import Encoded, encode_split
from lorafuse_jax.data.examples import Task, load_task
from lorafuse_jax.data.recipes import RECIPES, load_recipe
from lorafuse_jax.data.rows import Example
from lorafuse_jax.data.templates import CHAT, TEMPLATES
from lorafuse_jax.models.hub import Model, load_model
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.placement import ONE_DEVICE, Placement
from lorafuse_jax.workflow.progress import console


@dataclass(frozen=True)
class EncodedTask:
    """A task as token ids.

    Attributes:
        path: where it came from.
        fingerprint: sha256 of what is trained and validated on.
        template: name of the prompt template.
        train: training examples.
        validation: held-out examples.
        dropped: examples left out for their length.
        source: the task as text, with its other splits; None where contamination is not looked for.
    """

    path: Path
    fingerprint: str
    template: str
    train: list[Encoded]
    validation: list[Encoded]
    dropped: int
    source: Task | None = None


CACHED_FROM = 1_000_000
"""Characters of a split from which its tokens are kept: about a second's tokenising."""


def resolve(name: str) -> Path:
    """The folder of a fetched asset, fetching it first, or else the path itself."""
    if name in ASSETS and not Path(name).exists():
        return fetch(name, say=console.print)
    return Path(name)


def load_any_model(
    name: str, quantization: str | None = None, placement: Placement = ONE_DEVICE
) -> Model:
    """A model by folder, GGUF file, asset name or hub name."""
    path = resolve(name) if name in ASSETS or Path(name).exists() else name
    shardings = partial(placement.base_shardings, quantized=quantization is not None)
    return load_model(path, quantization=quantization, shardings=shardings)


def load_any_task(name: str) -> Task:
    """A task by file, folder, asset name, or recipe: ``gsm8k``, or ``gsm8k:/a/local/copy``.

    Raises:
        UserError: there is none, or something in it is wrong.
    """
    recipe, _, place = name.partition(":")
    if recipe not in RECIPES or Path(name).exists():
        return load_task(resolve(name))
    return load_recipe(recipe, RECIPES[recipe], Path(place) if place else None)


def template_of(task: Task, model: Model, wanted: str | None) -> str:
    """The one that is wanted, the task's own, or the chat template where the tokenizer has one.

    Raises:
        UserError: there is none of that name, or the tokenizer has no chat template.
    """
    has_chat = getattr(model.tokenizer, "chat_template", None)
    chosen = wanted or task.template or (CHAT if has_chat else "qa")
    if chosen not in TEMPLATES:
        raise UserError(f"no template {chosen!r}; there are {', '.join(TEMPLATES)}")
    if chosen == CHAT and not has_chat:
        raise UserError(f"{model.path}: its tokenizer has no chat template; use another")
    return chosen


def load_inputs(config, placement: Placement = ONE_DEVICE) -> tuple[Model, EncodedTask]:
    """Everything a training run reads, with all its errors."""
    task = load_any_task(config.data)
    for split in ("train", "validation"):
        if not task.splits.get(split):
            raise UserError(f"{config.data} has no {split} examples; training needs both splits")
    model = load_any_model(config.model, config.quantization, placement)
    limit = min(config.max_length or model.config.context_length, model.config.context_length)
    template = template_of(task, model, config.template)
    encoded, dropped = {}, 0
    for split in ("train", "validation"):
        result = encode_split(
            task.splits[split],
            model.tokenizer,
            template,
            max_length=limit,
            overlong=config.overlong,
            cache=_cache_for(task.splits[split]),
        )
        _check_ids(result.examples, model, config.data)
        encoded[split] = result.examples
        dropped += result.dropped
    _check_losses(encoded["train"], config.data, "train")
    _check_losses(encoded["validation"][: config.heldout_examples], config.data, "validation")
    left_out = [f"{count} {reason}" for reason, count in task.left_out.items() if count]
    if left_out:
        console.print(f"{task.name}: left out {', '.join(left_out)}")
    if dropped:
        console.print(f"left out {dropped} examples of more than {limit} tokens (--overlong drop)")
    fingerprint = fingerprint_of(task.splits["train"] + task.splits["validation"])
    return model, EncodedTask(
        resolve(config.data),
        fingerprint,
        template,
        encoded["train"],
        encoded["validation"],
        dropped,
        task,
    )


def _cache_for(examples: list[Example]) -> Path | None:
    characters = sum(len(one.prompt) + len(one.completion) for one in examples)
    return cache_folder() / "tokens" if characters >= CACHED_FROM else None


def _check_losses(examples: list[Encoded], data: str, split: str) -> None:
    if not any(one.num_losses for one in examples):
        raise UserError(
            f"{data}: all {len(examples)} {split} examples have weight 0, so there is no loss"
        )


def _check_ids(examples: list[Encoded], model: Model, data: str) -> None:
    size = model.config.vocab_size
    for one in examples:
        highest = one.tokens.max()
        if highest >= size:
            raise UserError(
                f"{data}, example {one.id}: token id {highest} is beyond the model's {size} "
                "embeddings; was a token added to the tokenizer and not to the model?"
            )


def fingerprint_of(examples: list[Example]) -> str:
    """sha256 over the texts of all examples, and weights other than 1, in order."""
    digest = sha256()
    for example in examples:
        digest.update(f"{example.prompt}\0{example.completion}\0".encode())
        if example.turns or example.weight != 1:
            digest.update(f"{example.weight}\0{json.dumps(example.turns)}\0".encode())
    return digest.hexdigest()
