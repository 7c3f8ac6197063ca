"""What devices send each other: of each kind of collective and each axis of the mesh, in bytes."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lorafuse_jax.plan.loops import runs_of
from lorafuse_jax.plan.program import Instruction, Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

MESH_GROUPS = re.compile(
    r"replica_groups=mesh\[(?P<mesh>[^\]]*)\](?:, device_ids=\((?P<order>.*?)\)(?= \{))?"
    r" \{(?P<axes>[^}]*)\}"
)
"""Devices that stand on axes, in an order of their own where one is given."""


class Sent(NamedTuple):
    """What one device sends in one call of a program.

    Attributes:
        kind: of the collective.
        axes: of the mesh, over which it goes, joined by ``+``.
        bytes: that each device sends.
        times: how often.
    """

    kind: str
    axes: str
    bytes: int
    times: int


def sent_bytes(program: Program, mesh: Mapping[str, int]) -> list[Sent]:
    """What each device sends, most first.

    Counted as a ring sends it, the least that is possible: of a result of b bytes on n devices,
    b (n - 1) / n for a gather, twice that for a reduction to all.

    Args:
        program: of one device of several.
        mesh: axis -> ways, in the order of the devices' numbers.
    """
    # TPUs run a collective in pieces beside other work; the pieces share its channel.
    by_channel: dict[tuple[str, str, str], tuple[int, Instruction]] = {}
    for name, times in runs_of(program).items():
        for one in program.computations[name].instructions.values():
            kind = one.opcode.removesuffix("-start")
            if kind in KINDS:
                key = (kind, one.attribute("channel_id") or one.name, name_of_shape(one))
                if times > by_channel.get(key, (0, one))[0]:
                    by_channel[key] = (times, one)
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (kind, _, _), (times, one) in by_channel.items():
        group = _group(one, math.prod(mesh.values()))
        axes = _axes(group, mesh)
        totals[kind, axes][0] += times * _sent(kind, one, len(group))
        totals[kind, axes][1] += times
    found = [Sent(*key, *value) for key, value in totals.items() if value[0]]
    return sorted(found, key=lambda sent: -sent.bytes)


def name_of_shape(one: Instruction) -> str:
    """Tells collectives apart that share a channel and are no pieces of one."""
    return str([shape.sizes for shape in one.shapes])


def _sent(kind: str, one: Instruction, devices: int) -> int:
    """Bytes of one device in one go."""
    shapes = one.shapes
    if one.opcode.endswith("-start"):
        # a tuple of what goes in and what comes out, the same number of each
        shapes = shapes[: max(1, len(one.operands) * 2)][-len(one.operands) :]
    result = sum(shape.bytes for shape in shapes)
    if devices == 1:
        return 0
    if kind == "collective-permute":
        return result
    share = {"all-reduce": 2.0, "reduce-scatter": float(devices)}.get(kind, 1.0)
    return int(result * share * (devices - 1) / devices)


def _group(one: Instruction, devices: int) -> list[int]:
    """The numbers of the devices that the first of them speaks with, itself included."""
    text = one.attributes
    if pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", text):
        return sorted({int(pairs[1]), int(pairs[2])})
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return [int(number) for number in listed[1].split(",")]
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, source = (_ints(iota[at]) for at in (1, 2))
        order = _ints(iota[3]) if iota[3] else range(len(source))
        numbers = np.arange(math.prod(source)).reshape(source).transpose(tuple(order))
        return numbers.reshape(shape)[0].tolist()
    if named := re.search(MESH_GROUPS, text):
        return _of_axes(named["mesh"], named["order"] or "", named["axes"])
    if re.search(r"replica_groups=\{\}", text) or "replica_groups" not in text:
        return list(range(devices))
    raise ValueError(f"the devices of {one.name} are not understood: {text[:200]}")


def _of_axes(mesh: str, order: str, axes: str) -> list[int]:
    """``'axis_0'=2,'axis_1'=4``, the devices' order in it, and the axes or parts of them."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    numbers = np.arange(math.prod(sizes.values()))
    if turned := re.fullmatch(r"\[([\d,]+)\]T\(([\d,]+)\)", order):
        numbers = numbers.reshape(_ints(turned[1])).transpose(_ints(turned[2]))
    elif order:
        numbers = np.array(_ints(order))
    numbers = numbers.reshape(tuple(sizes.values()))
    index: list[slice | int] = [0] * len(sizes)
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes):
        whole = sizes[name]
        step = whole // (int(before) * int(size)) if size else 1
        count = int(size) if size else whole
        index[list(sizes).index(name)] = slice(0, step * count, step)
    return numbers[tuple(index)].reshape(-1).tolist()


def _axes(group: list[int], mesh: Mapping[str, int]) -> str:
    """Names of the axes along which the devices of a group differ."""
    places = np.array(np.unravel_index(group, tuple(mesh.values())))
    differ = [name for name, row in zip(mesh, places, strict=True) if len(set(row.tolist())) > 1]
    return "+".join(differ)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
