"""What is kept of the controlled world: every row's answers, compressed, and read again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.world.answers import Marks

Tables = Mapping[str, Sequence[Marks]]


def write_marks(file: Path, rows: Tables) -> None:
    """Row -> marks of each group, as ``right`` and ``log_likelihood`` [rows, G, E].

    Right or wrong is kept as bits, likelihoods as float16 (nats, to 0.1 %).
    """
    right = np.array([[one.right for one in groups] for groups in rows.values()])
    likely = np.array([[one.log_likelihood for one in groups] for groups in rows.values()])
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}")
    with beside.open("wb") as opened:
        np.savez_compressed(
            opened,
            rows=np.array(list(rows)),
            shape=np.array(right.shape),
            right=np.packbits(right),
            log_likelihood=likely.astype(np.float16),
        )
    beside.replace(file)


def read_marks(file: Path) -> dict[str, list[Marks]]:
    """What ``write_marks`` wrote."""
    with np.load(file, allow_pickle=False) as kept:
        shape = tuple(kept["shape"])
        right = np.unpackbits(kept["right"], count=int(np.prod(shape))).reshape(shape) > 0
        likely = kept["log_likelihood"].astype(np.float64)
        names = kept["rows"].tolist()
    return {
        name: [Marks(own, likely[row, group]) for group, own in enumerate(right[row])]
        for row, name in enumerate(names)
    }
