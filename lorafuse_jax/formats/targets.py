"""Which modules of a model PEFT adapts, by what ``adapter_config.json`` says.

PEFT makes an adapter for every module that its configuration selects. One that is selected and has
no tensors stays at its random start, with a warning. So what we write selects what is in the file.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lorafuse_jax.formats.layers import LayerKey, hf_name, parse_hf_name

SELECTING = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
EMBEDDING_NAMES = ("embed_tokens", "wte", "word_embeddings")
"""What families call the embedding of tokens."""

_ALL_LINEAR = "all-linear"


def selection_of(
    written: Iterable[LayerKey], left_out: Iterable[LayerKey], carried: Mapping[str, Any]
) -> dict[str, Any]:
    """What to write so that PEFT adapts these modules and no others.

    That is what was carried, where it selects all that is written and nothing that is left out.
    Otherwise it is all names in full: how many layers the model has, and whether another module of
    it ends like one of these (GPT-2 has two ``c_proj``), is not for us to know.

    Args:
        written: what is in the file.
        left_out: what the adapter has and the file has not, as it is zero.
        carried: of the ``PeftConfig`` of what the adapter was made of; may lack what selects.
    """
    names = sorted(hf_name(*key) for key in written)
    given = {key: carried[key] for key in SELECTING if key in carried}
    if "target_modules" in given:
        targets = given["target_modules"]
        used = isinstance(targets, str) or all(
            any(_ends_with(name, target) for name in names) for target in targets
        )
        exact = all(selects(given, name) for name in names) and not any(
            selects(given, hf_name(*key)) for key in left_out
        )
        if used and exact:
            return given
    return {"target_modules": names}


def last_parts(modules: Iterable[str]) -> list[str]:
    """``target_modules`` for an adapter of all modules of a model that end like these."""
    return sorted({module.rpartition("/")[2] for module in modules})


def is_embedding(name: str) -> bool:
    """Whether a module of that name is an embedding rather than a linear layer."""
    return name.rpartition(".")[2] in EMBEDDING_NAMES


def selects(where: Mapping[str, Any], name: str) -> bool:
    """Whether PEFT would adapt a linear layer or an embedding of that name.

    As its ``check_target_module_exists`` says.

    Args:
        where: ``target_modules``, and any other of ``SELECTING``.
        name: as Hugging Face has it.
    """
    if _matches(where.get("exclude_modules") or [], name):
        return False
    targets = where["target_modules"]
    if isinstance(targets, str) and targets.lower() == _ALL_LINEAR:
        key = parse_hf_name(name)  # all but the head, which is in no stack of layers
        return key is not None and "/" in key.module and not is_embedding(name)
    if isinstance(targets, str) or name in targets:  # the number of the layer is not looked at
        return _matches(targets, name)
    return _matches(targets, name) and _is_transformed(where, name)


def _matches(patterns: str | list[str], name: str) -> bool:
    """PEFT's rule: a text is a regular expression of whole names, a list has their ends."""
    if isinstance(patterns, str):
        return re.fullmatch(patterns, name) is not None
    return any(_ends_with(name, end) for end in patterns)


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _is_transformed(where: Mapping[str, Any], name: str) -> bool:
    layers, stacks = where.get("layers_to_transform"), where.get("layers_pattern")
    if layers is None or layers == []:
        return True
    stacks = [stacks] if isinstance(stacks, str) else stacks
    patterns = [rf"(?:^|.*?\.){stack}\.(\d+)\." for stack in stacks or []]
    for pattern in patterns or [r".*?\.[^.]*\.(\d+)\."]:
        if found := re.match(pattern, name):
            return int(found[1]) in (layers if isinstance(layers, list) else [layers])
    return False
