"""Model and data of a run, found by path or name, checked before any long work."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lorafuse_jax.assets import ASSETS, fetch
from lorafuse_jax.data.encode import Encoded, encode_split
from lorafuse_jax.data.examples import Task, load_task
from lorafuse_jax.data.rows import Example
from lorafuse_jax.data.templates import TEMPLATES
from lorafuse_jax.models.hub import Model, load_model
from lorafuse_jax.types import UserError
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
    """

    path: Path
    fingerprint: str
    template: str
    train: list[Encoded]
    validation: list[Encoded]
    dropped: int


def resolve(name: str) -> Path:
    """The folder of a fetched asset, fetching it first, or else the path itself."""
    if name in ASSETS and not Path(name).exists():
        return fetch(name, say=console.print)
    return Path(name)


def load_any_model(name: str, quantization: str | None = None) -> Model:
    """A model by folder, GGUF file, asset name or hub name."""
    path = resolve(name) if name in ASSETS or Path(name).exists() else name
    return load_model(path, quantization=quantization)


def load_any_task(name: str) -> Task:
    """A task by file, folder or asset name."""
    return load_task(resolve(name))


def template_of(task: Task, model: Model, wanted: str | None) -> str:
    """The one that is wanted, the task's own, or the chat template where the tokenizer has one.

    Raises:
        UserError: there is none of that name, or the tokenizer has no chat template.
    """
    has_chat = getattr(model.tokenizer, "chat_template", None)
    if wanted is not None:
        if wanted not in TEMPLATES:
            raise UserError(f"no template {wanted!r}; there are {', '.join(TEMPLATES)}")
        if wanted == "chat" and not has_chat:
            raise UserError(f"{model.path}: its tokenizer has no chat template; use another")
        return wanted
    if task.template is not None:
        return task.template
    return "chat" if has_chat else "qa"


def load_inputs(config) -> tuple[Model, EncodedTask]:
    """Everything a training run reads, with all its errors."""
    task = load_any_task(config.data)
    for split in ("train", "validation"):
        if not task.splits.get(split):
            raise UserError(f"{config.data} has no {split} examples; training needs both splits")
    model = load_any_model(config.model, config.quantization)
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
        )
        _check_ids(result.examples, model, config.data)
        encoded[split] = result.examples
        dropped += result.dropped
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
    """sha256 over prompts and completions, in order."""
    digest = sha256()
    for example in examples:
        digest.update(f"{example.prompt}\0{example.completion}\0".encode())
    return digest.hexdigest()
