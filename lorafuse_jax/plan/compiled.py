"""What a compiled program takes of each device: memory, operations, traffic, words to others."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from lorafuse_jax.plan.collectives import Sent, sent_bytes
from lorafuse_jax.plan.products import product_flops
from lorafuse_jax.plan.program import parse
from lorafuse_jax.plan.traffic import moved_bytes


@dataclass(frozen=True)
class Counted:
    """Work of one device, in one step.

    Attributes:
        flops: of matrix products.
        moved: bytes read from memory and written to it.
        collectives: what it sends to other devices.
    """

    flops: float
    moved: float
    collectives: tuple[Sent, ...]

    @property
    def sent(self) -> float:
        """Bytes to all others, over all axes."""
        return float(sum(one.bytes for one in self.collectives))


@dataclass(frozen=True)
class Demand:
    """Of one device, in one step.

    Attributes:
        arguments: bytes of what the program is given.
        temporary: bytes of what it makes meanwhile, and its own code.
        peak: bytes that have to be there at once; results lie where arguments lay that they
            replace.
        counted: what the program's text says of its work.
    """

    arguments: int
    temporary: int
    peak: int
    counted: Counted


def compile_and_read(
    lowered: jax.stages.Lowered, mesh: Mapping[str, int], *, dumped: bool
) -> Demand:
    """Compile a program of one or many devices, and read the compiler's account of it.

    Args:
        lowered: the program.
        mesh: axis -> ways, in the order of the devices.
        dumped: the compiler writes the program's text down itself, as libtpu can; jaxlib cannot
            write down all of its programs, those with asynchronous slices among them.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True} if dumped else None
        compiled = lowered.compile(compiler_options=options)
        written = list(Path(folder).glob("*.after_optimizations.txt"))
        text = max((one.read_text() for one in written), key=len) if dumped else compiled.as_text()
    memory: Any = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Demand(
        arguments=memory.argument_size_in_bytes,
        temporary=temporary,
        peak=memory.argument_size_in_bytes + temporary + results,
        counted=count(str(text), mesh),
    )


def count(text: str, mesh: Mapping[str, int]) -> Counted:
    """What a program's text says of its work."""
    program = parse(text)
    return Counted(
        flops=float(product_flops(program)),
        moved=float(moved_bytes(program)),
        collectives=tuple(sent_bytes(program, mesh)),
    )
