"""Values between the test's process and the program's, as JSON: built-in types, never pickles.

A pickle from the program could run code beside the test. Here only data comes through, of the types
below, rebuilt as exactly these types; an object of any other type stays where it is, and the other
side gets a handle on it (``remote.Remote``).

An instance of a subclass of one of them (a named tuple, an IntEnum) becomes a value of the type
itself, so that a comparison never calls an ``__eq__`` of the program's.

JSON's scalars stand for None, bool, str, float and ints of 64 bits; all else is ``[tag, *items]``.
"""

import base64
import datetime
import importlib
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

SMALL = 1 << 63
PLAIN_DTYPE = re.compile(r"[<>|=]([biufcSU]\d+|[mM]8(\[\w+\])?)")
TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        *(object, type, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set),
        *(frozenset, range, slice, OrderedDict, Counter, deque, defaultdict, Decimal, Fraction),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, type(None)),
    )
}


class Unreadable(BaseException):
    """The other side sent what is no value; no ``except Exception`` of a test's catches it."""


class Codec:
    """Both directions.

    Attributes:
        export: an object that stays here -> what stands for it.
        find: (tag, number) -> an object of the other side, or one of ours that comes back.
    """

    def __init__(self, export: Callable[[Any], list], find: Callable[[str, int], Any]):
        self.export = export
        self.find = find

    def encode(self, value: Any) -> Any:
        """The value in JSON's types; everything in it is copied."""
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            return self._encode_array(value)
        if isinstance(value, type):
            known = TYPES.get(value.__name__) is value
            return ["type", value.__name__] if known else self.export(value)
        if isinstance(value, type(sys)) and _is_importable(value.__name__):
            return ["module", value.__name__]
        for base in type(value).__mro__:
            if base in ENCODERS:
                return ENCODERS[base](self, value)
        return self.export(value)

    def decode(self, sent: Any) -> Any:
        """The value again.

        Raises:
            Unreadable: it is none.
        """
        if not isinstance(sent, list):
            return sent
        try:
            tag, *items = sent
            return DECODERS[tag](self, items)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    def tagged(self, tag: str, items: Iterable[Any]) -> list:
        """``[tag, *items]``, encoded."""
        return [tag, *map(self.encode, items)]

    def pairs(self, tag: str, items: Iterable[tuple[Any, Any]]) -> list:
        """``[tag, [key, value], ...]``, encoded."""
        return [tag, *([self.encode(key), self.encode(value)] for key, value in items)]

    def all(self, items: Iterable[Any]) -> list:
        """Decoded."""
        return [self.decode(item) for item in items]

    def all_pairs(self, items: Iterable[list]) -> list[tuple[Any, Any]]:
        """Decoded."""
        return [(self.decode(key), self.decode(value)) for key, value in items]

    def _encode_array(self, array: Any) -> list:
        tag = "array" if hasattr(array, "__setitem__") else "scalar"
        if array.dtype.kind == "O":
            return ["objects", list(array.shape), *map(self.encode, array.ravel().tolist())]
        if not PLAIN_DTYPE.fullmatch(array.dtype.str):
            return self.export(array)
        data = base64.b64encode(array.tobytes()).decode()
        return [tag, array.dtype.str, list(array.shape), data]


def _is_importable(name: str) -> bool:
    return name in sys.stdlib_module_names or name == "numpy"


def _module(name: str) -> Any:
    if not _is_importable(name):
        raise Unreadable(f"module {name!r}")
    return importlib.import_module(name)


def _array(dtype: str, shape: list[int], data: str) -> Any:
    if not PLAIN_DTYPE.fullmatch(dtype):
        raise Unreadable(f"numbers of type {dtype!r}")
    numpy = importlib.import_module("numpy")
    return numpy.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape).copy()


def _objects(codec: Codec, shape: list[int], *items: Any) -> Any:
    array = importlib.import_module("numpy").empty(len(items), dtype=object)
    for number, item in enumerate(items):
        array[number] = codec.decode(item)
    return array.reshape(shape)


def _encode_int(codec: Codec, value: int) -> Any:
    # In hexadecimal: there Python has no limit to the digits.
    return int(value) if -SMALL <= value < SMALL else ["int", f"{int(value):x}"]


ENCODERS: dict[type, Callable[[Codec, Any], Any]] = {
    type(None): lambda codec, v: v,
    bool: lambda codec, v: v,
    int: _encode_int,
    float: lambda codec, v: float(v),
    str: lambda codec, v: str.__str__(v),
    complex: lambda codec, v: ["complex", v.real, v.imag],
    bytes: lambda codec, v: ["bytes", v.hex()],
    bytearray: lambda codec, v: ["bytearray", v.hex()],
    list: lambda codec, v: codec.tagged("list", list.__iter__(v)),
    tuple: lambda codec, v: codec.tagged("tuple", tuple.__iter__(v)),
    set: lambda codec, v: codec.tagged("set", v),
    frozenset: lambda codec, v: codec.tagged("frozenset", v),
    deque: lambda codec, v: ["deque", v.maxlen, *map(codec.encode, v)],
    dict: lambda codec, v: codec.pairs("dict", dict.items(v)),
    OrderedDict: lambda codec, v: codec.pairs("OrderedDict", v.items()),
    Counter: lambda codec, v: codec.pairs("Counter", v.items()),
    defaultdict: lambda codec, v: [
        *("defaultdict", codec.encode(v.default_factory)),
        *codec.pairs("", v.items())[1:],
    ],
    type({}.keys()): lambda codec, v: codec.tagged("keys", v),
    type({}.values()): lambda codec, v: codec.tagged("values", v),
    type({}.items()): lambda codec, v: codec.pairs("items", v),
    range: lambda codec, v: codec.tagged("range", (v.start, v.stop, v.step)),
    slice: lambda codec, v: codec.tagged("slice", (v.start, v.stop, v.step)),
    Decimal: lambda codec, v: ["Decimal", str(v)],
    Fraction: lambda codec, v: codec.tagged("Fraction", (v.numerator, v.denominator)),
    datetime.datetime: lambda codec, v: ["datetime", v.isoformat()],
    datetime.date: lambda codec, v: ["date", v.isoformat()],
    datetime.time: lambda codec, v: ["time", v.isoformat()],
    datetime.timedelta: lambda codec, v: ["timedelta", v.days, v.seconds, v.microseconds],
    type(...): lambda codec, v: ["..."],
    type(NotImplemented): lambda codec, v: ["NotImplemented"],
}
"""By the first class that is here, in the order in which Python looks attributes up."""

DECODERS: dict[str, Callable[[Codec, list], Any]] = {
    "mine": lambda codec, items: codec.find("mine", items[0]),
    "yours": lambda codec, items: codec.find("yours", items[0]),
    "type": lambda codec, items: TYPES[items[0]],
    "module": lambda codec, items: _module(items[0]),
    "int": lambda codec, items: int(items[0], 16),
    "complex": lambda codec, items: complex(*items),
    "bytes": lambda codec, items: bytes.fromhex(items[0]),
    "bytearray": lambda codec, items: bytearray.fromhex(items[0]),
    "list": lambda codec, items: codec.all(items),
    "tuple": lambda codec, items: tuple(codec.all(items)),
    "set": lambda codec, items: set(codec.all(items)),
    "frozenset": lambda codec, items: frozenset(codec.all(items)),
    "deque": lambda codec, items: deque(codec.all(items[1:]), maxlen=items[0]),
    "dict": lambda codec, items: dict(codec.all_pairs(items)),
    "OrderedDict": lambda codec, items: OrderedDict(codec.all_pairs(items)),
    "Counter": lambda codec, items: Counter(dict(codec.all_pairs(items))),
    "defaultdict": lambda codec, items: defaultdict(
        codec.decode(items[0]), codec.all_pairs(items[1:])
    ),
    "keys": lambda codec, items: dict.fromkeys(codec.all(items)).keys(),
    "values": lambda codec, items: dict(enumerate(codec.all(items))).values(),
    "items": lambda codec, items: dict(codec.all_pairs(items)).items(),
    "range": lambda codec, items: range(*codec.all(items)),
    "slice": lambda codec, items: slice(*codec.all(items)),
    "Decimal": lambda codec, items: Decimal(items[0]),
    "Fraction": lambda codec, items: Fraction(*codec.all(items)),
    "datetime": lambda codec, items: datetime.datetime.fromisoformat(items[0]),
    "date": lambda codec, items: datetime.date.fromisoformat(items[0]),
    "time": lambda codec, items: datetime.time.fromisoformat(items[0]),
    "timedelta": lambda codec, items: datetime.timedelta(*items),
    "...": lambda codec, items: ...,
    "NotImplemented": lambda codec, items: NotImplemented,
    "array": lambda codec, items: _array(*items),
    "scalar": lambda codec, items: _array(*items)[()],
    "objects": lambda codec, items: _objects(codec, *items),
}
