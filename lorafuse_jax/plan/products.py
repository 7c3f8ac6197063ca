"""Operations of the matrix products that a compiled program executes."""

import math
import re

from lorafuse_jax.plan.loops import runs_of
from lorafuse_jax.plan.program import Computation, Instruction, Program


def product_flops(program: Program) -> int:
    """Of one call, on one device; a product of [m, k] and [k, n] is 2 m k n.

    Counted as they stand in the program, what is computed twice twice, each as often as it runs.
    """
    total = 0
    for name, times in runs_of(program).items():
        computation = program.computations[name]
        for one in computation.instructions.values():
            if one.opcode in COUNTED:
                total += times * COUNTED[one.opcode](computation, one)
    return total


def _dot(computation: Computation, one: Instruction) -> int:
    left = computation.instructions[one.operands[0]].shapes[0].sizes
    summed = _numbers(one, "lhs_contracting_dims")
    return 2 * math.prod(one.shapes[0].sizes) * math.prod(left[axis] for axis in summed)


def _convolution(computation: Computation, one: Instruction) -> int:
    """TPUs multiply matrices as convolutions, the axes of a batch as windows of one place each."""
    left, kernel = (computation.instructions[name].shapes[0].sizes for name in one.operands)
    labels = re.split(r"_|->", str(one.attribute("dim_labels")))
    inputs, weights, outputs = (
        dict(zip(label, sizes, strict=True))
        for label, sizes in zip(labels, (left, kernel, one.shapes[0].sizes), strict=True)
    )
    window = _window(one)
    places = 1
    for axis in range(len(inputs) - 2):
        size = lambda key, default, axis=axis: window.get(key, {}).get(axis, default)  # noqa: E731
        places *= _places(
            inputs[str(axis)],
            outputs[str(axis)],
            kernel=size("size", 1),
            stride=size("stride", 1),
            before=size("pad", 0),
            spread=size("lhs_dilate", 1),
            reach=size("rhs_dilate", 1),
        )
    groups = int(one.attribute("batch_group_count") or 1)
    return 2 * outputs["b"] * outputs["f"] * weights["i"] * places // groups


def _places(
    inputs: int, outputs: int, *, kernel: int, stride: int, before: int, spread: int, reach: int
) -> int:
    """Pairs of an output and a kernel's place that meet an input, neither padding nor a gap."""
    last = (inputs - 1) * spread
    places = 0
    for output in range(outputs):
        for place in range(kernel):
            at = output * stride + place * reach - before
            places += 0 <= at <= last and at % spread == 0
    return places


def _window(one: Instruction) -> dict[str, dict[int, int]]:
    """``size=8x32 pad=0_0x31_31`` -> the numbers of each axis; of ``pad`` those in front."""
    found = re.search(r"\bwindow=\{([^}]*)\}", one.attributes)
    pairs = [word.split("=") for word in found[1].split()] if found else []
    return {
        key: {axis: int(part.split("_")[0]) for axis, part in enumerate(value.split("x"))}
        for key, value in pairs
    }


def _numbers(one: Instruction, name: str) -> list[int]:
    found = re.search(rf"\b{name}=\{{([\d,]*)\}}", one.attributes)
    return [int(number) for number in found[1].split(",") if number] if found else []


COUNTED = {"dot": _dot, "convolution": _convolution}
