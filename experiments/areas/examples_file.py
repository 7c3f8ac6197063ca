"""``AREA-examples.npz``: every example, every model, so that anyone can redo the statistics.

For each test, and each curve under ``curve/TEST``, the arrays

* ``TEST/ids`` [E]: of the examples;
* ``TEST/models`` [G, M] and ``TEST/kinds`` [G, M]: a row a group;
* ``TEST/values`` [G, M, E]: what models are compared by; bool, or float32 where answers are right
  some times of several;
* ``TEST/log_likelihood`` [G, M, E]: of the reference, nats a token, float32; absent where nothing
  of the kind was asked.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lorafuse_jax.evaluation.scores import Scores


def write_examples(path: Path, tests: Mapping[str, Sequence[Scores]]) -> None:
    """Write the file, whole or not at all.

    Args:
        path: of the file.
        tests: name -> scores of every group, of as many models and the same examples each.
    """
    arrays: dict[str, np.ndarray] = {}
    for test, groups in tests.items():
        values = np.stack([scores.primary for scores in groups])
        is_whole = bool(np.isin(values, (0, 1)).all())
        arrays[f"{test}/ids"] = np.array(groups[0].ids)
        arrays[f"{test}/models"] = np.array([scores.models for scores in groups])
        arrays[f"{test}/kinds"] = np.array([scores.kinds for scores in groups])
        arrays[f"{test}/values"] = values.astype(bool if is_whole else np.float32)
        likely = [one.log_likelihood for one in groups if one.log_likelihood is not None]
        if len(likely) == len(groups):
            arrays[f"{test}/log_likelihood"] = np.stack(likely).astype(np.float32)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content.getvalue())
    beside.replace(path)
