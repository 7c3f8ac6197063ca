"""Reads off a compiled program which devices speak with which."""

import math
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from lorafuse_jax.parallel.mesh import AXES, MeshShape

COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast)"
    r"(?:-start)?\(.*"
)


def count_collectives(text: str, shape: MeshShape) -> Counter[str]:
    """``AXES KIND`` -> how many there are; one in the body of a loop counts once."""
    found: Counter[str] = Counter()
    for line in filter(None, map(COLLECTIVE.search, text.splitlines())):
        found[f"{'+'.join(spoken_along(line[0], shape))} {line[1]}"] += 1
    return found


def spoken_along(line: str, shape: MeshShape) -> list[str]:
    """The axes of the mesh in which some two devices of one group lie apart."""
    sizes = [getattr(shape, axis) for axis in AXES]
    places = [np.array(np.unravel_index(group, sizes)) for group in _groups(line, shape.devices)]
    return [
        axis
        for number, axis in enumerate(AXES)
        if any(len(set(at[number].tolist())) > 1 for at in places)
    ]


def _groups(line: str, devices: int) -> Iterator[list[int]]:
    """In all the ways in which XLA writes them."""
    if named := re.search(
        r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", line
    ):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        among = [list(sizes).index(name) for name in re.findall(r"'(\w+)'", named[3])]
        grid = _iota(named[2] or f"[{devices}]").reshape(list(sizes.values()))
        size = math.prod(grid.shape[axis] for axis in among)
        yield from np.moveaxis(grid, among, range(-len(among), 0)).reshape(-1, size).tolist()
    elif iota := re.search(r"replica_groups=\[(.*?)\]<=(\[.*?\](?:T\(.*?\))?)", line):
        yield from _iota(iota[2]).reshape(_numbers(iota[1])).tolist()
    else:
        listed = re.search(r"(?:replica_groups|source_target_pairs)=\{(\{.*?\})\}", line)
        assert listed, line
        yield from map(_numbers, re.findall(r"\{(.*?)\}", listed[1]))


def _iota(text: str) -> np.ndarray:
    """``[2,4]T(1,0)``: the numbers from 0 in that shape, transposed."""
    sizes, _, order = text.partition("T")
    grid = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return grid.transpose(_numbers(order)) if order else grid


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
