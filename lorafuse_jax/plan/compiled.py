"""What a compiled program takes of each device: memory, operations, traffic, words to others."""

from collections.abc import Mapping
from dataclasses import dataclass
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
        counted: what the program's text says of its work; None where jaxlib cannot write it down,
            as some with asynchronous slices for TPUs.
        traced: operations as the program was traced, a device's share; only then.
    """

    arguments: int
    temporary: int
    peak: int
    counted: Counted | None
    traced: float | None = None


def demand(compiled: jax.stages.Compiled, mesh: Mapping[str, int]) -> Demand:
    """Read from the compiler's own account of memory, and from the program's text.

    Args:
        compiled: a program of one or many devices.
        mesh: axis -> ways, in the order of the devices.
    """
    memory: Any = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    try:
        counted = count(str(compiled.as_text()), mesh)
    except jax.errors.JaxRuntimeError:
        counted = None
    return Demand(
        arguments=memory.argument_size_in_bytes,
        temporary=temporary,
        peak=memory.argument_size_in_bytes + temporary + results,
        counted=counted,
    )


def count(text: str, mesh: Mapping[str, int]) -> Counted:
    """What a program's text says of its work."""
    program = parse(text)
    return Counted(
        flops=float(product_flops(program)),
        moved=float(moved_bytes(program)),
        collectives=tuple(sent_bytes(program, mesh)),
    )
