"""Bytes that a compiled program reads from a device's main memory and writes there."""

from lorafuse_jax.plan.loops import runs_of
from lorafuse_jax.plan.program import Computation, Instruction, Program

FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "call",
    "conditional",
    "copy-done",
    "slice-done",
    "all-gather-done",
    "all-reduce-done",
    "collective-permute-done",
    "async-done",
    "after-all",
    "partition-id",
}
"""What moves nothing itself."""

STREAMED = {"dynamic-slice", "slice", "gather"}


def moved_bytes(program: Program) -> int:
    """Of one call, on one device.

    Every instruction that stands by itself, a fusion as one, reads its operands and writes its
    result once; what lies on the chip costs nothing. Of an array of which a slice is read or
    written in place, only the slice is.
    """
    inside = {
        called
        for computation in program.computations.values()
        for one in computation.instructions.values()
        if one.opcode not in ("while", "call", "conditional")
        for called in one.called
    }
    total = 0
    for name, times in runs_of(program).items():
        if name in inside:
            continue
        computation = program.computations[name]
        for one in computation.instructions.values():
            if one.opcode not in FREE:
                total += times * (_read(program, computation, one) + _written(program, one))
    return total


def _main(one: Instruction) -> int:
    return sum(shape.bytes for shape in one.shapes if shape.space == 0)


def _read(program: Program, computation: Computation, one: Instruction) -> int:
    operands = [computation.instructions[name] for name in one.operands]
    if one.opcode == "fusion":
        inner = program.computations[one.called[0]]
        pairs = zip(operands, inner.parameters(), strict=True)
        return sum(min(_main(operand), _used(program, inner, own)) for operand, own in pairs)
    if one.opcode in STREAMED:
        return min(_main(operands[0]), sum(shape.bytes for shape in one.shapes))
    if one.opcode == "dynamic-update-slice":
        return _main(operands[1])
    return sum(map(_main, operands))


def _used(program: Program, computation: Computation, value: Instruction) -> int:
    """Bytes of a value that a fused computation reads; at most all of it."""
    whole = sum(shape.bytes for shape in value.shapes)
    total = 0
    for one in computation.instructions.values():
        if value.name not in one.operands:
            continue
        if one.opcode in STREAMED and one.operands[0] == value.name:
            total += sum(shape.bytes for shape in one.shapes)
        elif one.opcode == "dynamic-update-slice" and one.operands[0] == value.name:
            continue
        elif one.opcode in ("bitcast", "get-tuple-element"):
            total += _used(program, computation, one)
        elif one.opcode == "fusion":
            inner = program.computations[one.called[0]]
            total += _used(program, inner, inner.parameters()[one.operands.index(value.name)])
        elif one.opcode != "tuple":
            total += whole
    return min(whole, total)


def _written(program: Program, one: Instruction) -> int:
    if one.opcode == "fusion":
        inner = program.computations[one.called[0]]
        return _made(program, inner, inner.instructions[inner.root], one)
    if one.opcode == "dynamic-update-slice":
        return 0  # what is written is what was read
    return _main(one)


def _made(program: Program, computation: Computation, root: Instruction, like: Instruction) -> int:
    """Bytes that a fusion writes: of arrays changed in place, the slice alone."""
    if root.opcode == "tuple":
        parts = [computation.instructions[name] for name in root.operands]
        spaces = like.shapes if len(like.shapes) == len(parts) else (None,) * len(parts)
        return sum(
            _made(program, computation, part, part)
            for part, shape in zip(parts, spaces, strict=True)
            if part.opcode != "parameter" and (shape is None or shape.space == 0)
        )
    if root.opcode == "bitcast":
        return min(
            _main(like),
            _made(program, computation, computation.instructions[root.operands[0]], like),
        )
    if root.opcode == "dynamic-update-slice":
        update = computation.instructions[root.operands[1]]
        return sum(shape.bytes for shape in update.shapes)
    return _main(like)
