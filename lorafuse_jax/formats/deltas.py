"""The updates of an adapter folder one at a time, as matrices, whatever the size of the whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lorafuse_jax.formats.dense import DELTA_FILE, ENDING, is_dense
from lorafuse_jax.formats.layers import hf_name, parse_hf_name
from lorafuse_jax.formats.peft import load_peft
from lorafuse_jax.formats.tensors import files_of, open_tensors
from lorafuse_jax.types import LoraPair, UserError


@dataclass(frozen=True)
class Delta:
    """The update of one module of one layer.

    Attributes:
        name: the module, as Hugging Face calls it.
        shape: I, O.
        make: the matrix [I, O] in float32, made when it is asked for.
    """

    name: str
    shape: tuple[int, int]
    make: Callable[[], Float[np.ndarray, "I O"]]


def deltas_of(folder: Path) -> list[Delta]:
    """What an adapter changes, low-rank or dense; layers that are all zero are left out.

    Raises:
        UserError: nothing readable is there, or all of it is zero.
    """
    deltas = list(_dense_deltas(folder) if is_dense(folder) else _low_rank_deltas(folder))
    if not deltas:
        raise UserError(f"{folder} changes nothing: all of its updates are zero")
    return deltas
