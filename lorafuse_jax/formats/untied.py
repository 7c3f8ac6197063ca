"""A checkpoint whose output head is its embedding, on the way to one that has both.

An update of either makes them two. The head becomes a tensor of its own, in a file of its own
beside those that there are, and ``config.json`` says ``tie_word_embeddings: false``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lorafuse_jax.formats.deltas import Delta
from lorafuse_jax.formats.folder import read_json, write_json
from lorafuse_jax.formats.hf_model import MODEL_FILE, same_values
from lorafuse_jax.formats.stored import Stored, header, read_tensor
from lorafuse_jax.formats.targets import is_embedding
from lorafuse_jax.formats.tensor_file import write_tensors
from lorafuse_jax.formats.tensors import write_index
from lorafuse_jax.types import HEAD, UserError

HEAD_TENSOR = f"{HEAD}.weight"
HEAD_FILE = "model-lm_head.safetensors"
ONLY_SHARD = "model-00001-of-00001.safetensors"
"""What a checkpoint of one file is called once it has an index: transformers reads no other file
beside ``model.safetensors``."""


def table_of_both(base: Path, tensors: Mapping[str, Stored], deltas: Sequence[Delta]) -> Stored:
    """The embedding that is to be the head as well.

    Args:
        base: folder of the checkpoint, for messages.
        tensors: of ``read_checkpoint``.
        deltas: of ``deltas_of``.

    Raises:
        UserError: the checkpoint is of a model in a larger one, has no single embedding, or has a
            head beside it that differs.
    """
    found = [name for name in tensors if is_embedding(name.removesuffix(".weight"))]
    within = any(one.name.endswith(f".{HEAD}") for one in deltas)
    if len(found) != 1 or within or "text_config" in read_json(base / "config.json"):
        raise UserError(
            f"{base} has one table for embedding and output head (tie_word_embeddings), and the "
            "adapter changes one of them; what the other is called in this model is not known, so "
            f"they cannot be parted; leave {found[0] if found else HEAD} out of the adapter"
        )
    embedding = tensors[found[0]]
    if HEAD_TENSOR in tensors and not same_values(tensors[HEAD_TENSOR], embedding):
        raise UserError(
            f"{base}: config.json ties the output head to the embedding, but {HEAD_TENSOR} differs "
            f"from {found[0]}; set tie_word_embeddings to false there, or remove that tensor"
        )
    return embedding


def write_head(out: Path, embedding: Stored) -> dict[str, Stored]:
    """A copy of the embedding as the head, in ``out``; where it is, by name."""
    write_tensors(out / HEAD_FILE, {HEAD_TENSOR: read_tensor(embedding)})
    return header(out / HEAD_FILE)


def describe_untied(out: Path) -> None:
    """Index and configuration of a checkpoint whose head is a tensor of its own.

    Args:
        out: with all files of the base, and ``HEAD_FILE`` where the base has no head.
    """
    config = read_json(out / "config.json")
    write_json(out / "config.json", config | {"tie_word_embeddings": False})
    if not (out / HEAD_FILE).exists():
        return
    index = out / f"{MODEL_FILE}.index.json"
    if (out / MODEL_FILE).exists():
        (out / MODEL_FILE).rename(out / ONLY_SHARD)
        files = dict.fromkeys(header(out / ONLY_SHARD), ONLY_SHARD)
    else:
        files = dict(read_json(index)["weight_map"])
    files[HEAD_TENSOR] = HEAD_FILE
    write_index(index, files, sum(_bytes_of_tensors(out / file) for file in set(files.values())))


def _bytes_of_tensors(file: Path) -> int:
    return file.stat().st_size - min(stored.start for stored in header(file).values())
