"""How often each computation of a program runs: loops are gone through as their counters say.

XLA's own cost analysis counts the body of a loop once, and a scan over layers is such a loop.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping

from lorafuse_jax.plan.program import Computation, Instruction, Program

KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

MOST_TURNS = 1_000_000

ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "minimum": min,
    "maximum": max,
}
COMPARED: dict[str, Callable[[int, int], bool]] = {
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
}
SAME = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done")


def runs_of(program: Program) -> Counter[str]:
    """Name of a computation -> how often it runs in one call of the program.

    Of the branches of a conditional each counts as if it were taken.

    Raises:
        ValueError: a loop whose number of turns does not follow from the text.
    """
    runs: Counter[str] = Counter()

    def visit(name: str, times: int) -> None:
        runs[name] += times
        computation = program.computations[name]
        for one in computation.instructions.values():
            turns = turns_of(program, computation, one) if one.opcode == "while" else 1
            for called in one.called:
                visit(called, times * turns)

    visit(program.entry, 1)
    return runs


def turns_of(program: Program, computation: Computation, loop: Instruction) -> int:
    """How often the body of a ``while`` runs.

    Raises:
        ValueError: its condition depends on more than counters.
    """
    if known := KNOWN.search(loop.attributes):
        return int(known[1])
    names = {key: loop.attribute(key) for key in ("condition", "body")}
    condition, body = (program.computations[str(name)[1:]] for name in names.values())
    start = computation.instructions[loop.operands[0]]
    counters = {
        int(str(one.attribute("index")))
        for one in condition.instructions.values()
        if one.opcode == "get-tuple-element"
    }
    state = {k: _value(program, computation, _element(computation, start, k), {}) for k in counters}
    for turn in range(MOST_TURNS):
        if not _value(program, condition, condition.root, state):
            return turn
        root = body.instructions[body.root]
        state = {k: _value(program, body, _element(body, root, k), state) for k in counters}
    raise ValueError(f"the loop {loop.name} does not end")


def _element(computation: Computation, whole: Instruction, index: int) -> str:
    while whole.opcode in SAME:
        whole = computation.instructions[whole.operands[0]]
    if whole.opcode != "tuple":
        raise ValueError(f"{whole.name} is no tuple, and a loop's counter is in it")
    return whole.operands[index]


def _value(program: Program, computation: Computation, name: str, state: Mapping[int, int]) -> int:
    """Of a scalar; ``state`` has the elements of the computation's one parameter, or them all."""
    one = computation.instructions[name]
    if one.opcode == "constant":
        return {"true": 1, "false": 0}.get(one.inside) or int(one.inside)
    if one.opcode == "get-tuple-element":
        index = int(str(one.attribute("index")))
        if index in state and computation.instructions[one.operands[0]].opcode == "parameter":
            return state[index]
    if one.opcode == "parameter" and int(one.inside) in state:
        return state[int(one.inside)]
    values = lambda: [_value(program, computation, each, state) for each in one.operands]  # noqa: E731
    if one.opcode in SAME:
        return values()[0]
    if one.opcode in ARITHMETIC:
        return ARITHMETIC[one.opcode](*values())
    if one.opcode == "compare":
        return COMPARED[str(one.attribute("direction"))](*values())
    if one.opcode in ("fusion", "call"):
        inner = program.computations[one.called[0]]
        return _value(program, inner, inner.root, dict(enumerate(values())))
    raise ValueError(f"a loop's turns depend on {one.name}, {one.opcode}, which is no counter")
