"""A compiled program's text (XLA's HLO) as data: computations of instructions with shapes."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BYTES = {"pred": 1, "c64": 8, "c128": 16, "bf16": 2, "token": 0, "opaque": 0}
"""Of an element, where the name does not end in its number of bits."""

SHAPE = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,<=]*)\](\{[^}]*\})?")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
NAME = re.compile(r"%([\w.\-]+)")
CALLED = re.compile(
    r"\b(?:calls|body|condition|to_apply|true_computation|false_computation"
    r"|branch_computations|called_computations)=(\{[^}]*\}|%[\w.\-]+)"
)


class Shape(NamedTuple):
    """Of an array on one device.

    Attributes:
        kind: of its elements, as in ``bf16``.
        sizes: of its axes.
        space: of memory; 0 is the device's main memory, others lie on the chip.
    """

    kind: str
    sizes: tuple[int, ...]
    space: int = 0

    @property
    def bytes(self) -> int:
        """That it takes, without padding."""
        return math.prod(self.sizes) * bits_of(self.kind) // 8


class Instruction(NamedTuple):
    """One line.

    Attributes:
        name: unique in the program.
        opcode: as in ``dot``.
        shapes: of its result; several if that is a tuple.
        operands: names of instructions of the same computation.
        inside: what stands between its parentheses, for constants and parameters.
        attributes: what follows, as text.
    """

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    inside: str
    attributes: str

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it runs."""
        return tuple(
            name for group in CALLED.findall(self.attributes) for name in NAME.findall(group)
        )

    def attribute(self, name: str) -> str | None:
        """The value of an attribute without spaces or commas in it."""
        found = re.search(rf"\b{name}=([^,\s]+)", self.attributes)
        return found and found[1]


class Computation(NamedTuple):
    """Instructions in order, by name; the root gives the result."""

    name: str
    instructions: dict[str, Instruction]
    root: str

    def parameters(self) -> list[Instruction]:
        """In the order of the caller's operands."""
        found = [one for one in self.instructions.values() if one.opcode == "parameter"]
        return sorted(found, key=lambda one: int(one.inside))


class Program(NamedTuple):
    """All computations by name, and where it begins."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Program:
    """The program that ``jax.stages.Compiled.as_text`` shows.

    Raises:
        ValueError: it has no entry, or a line is not understood.
    """
    computations, entry = {}, None
    name, instructions, root = "", {}, ""
    for line in text.splitlines():
        if header := HEADER.match(line):
            name, instructions, root = header[2], {}, ""
            entry = name if header[1] else entry
        elif line.startswith("}") and name:  # a thread of execution may stand behind it
            computations[name] = Computation(name, instructions, root)
            name = ""
        elif name and (parts := LINE.match(line)):
            instruction = _instruction(parts[2], parts[3])
            instructions[instruction.name] = instruction
            root = instruction.name if parts[1] else root
    if entry is None:
        raise ValueError("the compiled program's text has no entry")
    return Program(computations, entry)


def bits_of(kind: str) -> int:
    """Bits of an element."""
    if kind in BYTES:
        return 8 * BYTES[kind]
    number = re.match(r"[a-z]+(\d+)", kind)
    return int(number[1]) if number else 0


def _instruction(name: str, rest: str) -> Instruction:
    rest = re.sub(r"/\*.*?\*/", "", rest)
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].strip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing]
    return Instruction(
        name=name,
        opcode=rest[:opening],
        shapes=tuple(_shapes(kind)),
        operands=tuple(NAME.findall(inside)),
        inside=inside,
        attributes=rest[closing + 1 :],
    )


def _shapes(text: str) -> Iterator[Shape]:
    for kind, sizes, layout in SHAPE.findall(text):
        space = re.search(r"S\((\d+)\)", layout)
        axes = tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        yield Shape(kind, axes, int(space[1]) if space else 0)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    raise ValueError(f"a parenthesis is not closed: {text[:100]}")
