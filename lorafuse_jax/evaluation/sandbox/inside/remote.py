"""Calls between the test's process and the program's: who asks waits, and answers meanwhile.

A message is eight bytes of length and JSON: questions such as ``["call", object, args, kwargs]``
(the keys of ``ANSWERS``), and answers ``["value", value, changed]`` or ``["raise", class, args]``.

What the test asks of the program holds arguments, keys and names only. No comparison and no
arithmetic with an object of the program's is sent there: ``result == expected`` would tell the
program what is expected, and let it decide. The program may ask less of the test: to call or to
iterate what it was given (a key function, a generator); it cannot look into it.
"""

import builtins
import json
import os
import struct
from collections import deque
from typing import Any

from .values import Codec, Unreadable

HEADER = struct.Struct(">Q")
OF_THE_TEST = frozenset({"call", "iter", "next"})
OWN_ATTRIBUTES = {"__name__", "__doc__", "__dict__"}


class Gone(BaseException):
    """The other process has ended; no ``except Exception`` of a test's catches it."""


class Remote:
    """An object of the other process's."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: "Peer", number: int):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        # Through other names with underscores, libraries take objects apart: NumPy would follow
        # the address that an __array_interface__ names.
        if name.startswith("__") and name not in OWN_ATTRIBUTES:
            raise AttributeError(name)
        return _ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return _ask(self, "call", list(args), kwargs)

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "item", key)

    def __len__(self) -> int:
        return _ask(self, "len")

    def __bool__(self) -> bool:
        return _ask(self, "bool")

    def __iter__(self) -> Any:
        return _ask(self, "iter")

    def __next__(self) -> Any:
        return _ask(self, "next")

    def __str__(self) -> str:
        return _ask(self, "str")

    def __repr__(self) -> str:
        return _ask(self, "repr")

    def __hash__(self) -> int:
        return _ask(self, "hash")

    def __eq__(self, other: Any) -> bool:
        # Of two objects of the program's, which the test did not make, the program may say.
        return isinstance(other, Remote) and bool(_ask(self, "equal", other))


def _ask(remote: Remote, what: str, *details: Any) -> Any:
    peer = object.__getattribute__(remote, "_peer")
    return peer.ask(what, object.__getattribute__(remote, "_number"), *details)


ANSWERS = {
    "call": lambda target, args, kwargs: target(*args, **kwargs),
    "get": getattr,
    "set": setattr,
    "item": lambda target, key: target[key],
    "len": len,
    "bool": bool,
    "iter": iter,
    "next": next,
    "str": str,
    "repr": repr,
    "hash": hash,
    "equal": lambda target, other: bool(target == other),
}


class Peer:
    """One end of the two pipes.

    Attributes:
        allowed: the questions that are answered.
        most: bytes of a message that is read.
    """

    def __init__(self, reads: int, writes: int, *, allowed: frozenset[str], most: int):
        self._reads = reads
        self._writes = writes
        self._objects: list[Any] = []
        self._codec = Codec(self._export, self._find)
        self._broken: BaseException | None = None
        self.allowed = allowed
        self.most = most

    def offer(self, value: Any) -> int:
        """Let the other side ask about it: its number."""
        for number, known in enumerate(self._objects):
            if known is value:
                return number
        self._objects.append(value)
        return len(self._objects) - 1

    def ask(self, what: str, number: int, *details: Any) -> Any:
        """The other side's answer about its object of this number.

        Raises:
            Gone: there is no other side any more.
            Unreadable: it broke the rules.
            BaseException: what was raised there, as the nearest built-in class.
        """
        if self._broken is not None:
            raise self._broken
        try:
            self._send([what, number, *map(self._codec.encode, details)])
            return self._answer_to(details[0] if what == "call" else [])
        except (Gone, Unreadable) as error:
            self._broken = error
            raise

    def serve(self) -> None:
        """Answer until the other side is gone."""
        try:
            while True:
                self._answer(*self._receive())
        except Gone:
            return

    def raised(self, error: BaseException) -> None:
        """Answer that this was raised."""
        kinds = [base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins"]
        try:
            arguments = self._codec.encode(list(error.args))
        except Exception:
            arguments = self._codec.encode([])
        self._send(["raise", kinds[0], arguments])

    def value(self, value: Any, changed: list | None = None) -> None:
        """Answer with this, and with the arguments as the call has left them."""
        try:
            message = ["value", self._codec.encode(value), self._codec.encode(changed)]
        except Exception as error:
            self.raised(error)
        else:
            self._send(message)

    def _answer_to(self, arguments: list) -> Any:
        while True:
            kind, *rest = self._receive()
            if kind == "value" and len(rest) == 2:
                _put_back(arguments, self._codec.decode(rest[1]))
                return self._codec.decode(rest[0])
            if kind == "raise" and len(rest) == 2:
                raise _exception(rest[0], self._codec.decode(rest[1]))
            self._answer(kind, *rest)

    def _answer(self, what: str, *details: Any) -> None:
        if what not in self.allowed:
            raise Unreadable(f"the question {what!r}")
        try:
            number, *rest = self._codec.all(details)
            found = ANSWERS[what](self._objects[number], *rest)
            left = self._codec.encode(rest[0]) if what == "call" else None
        except (Gone, Unreadable):
            raise
        except BaseException as error:
            self.raised(error)
        else:
            self.value(found, None if what != "call" or left == details[1] else rest[0])

    def _send(self, message: list) -> None:
        data = json.dumps(message).encode()
        left = memoryview(HEADER.pack(len(data)) + data)
        try:
            while left:
                left = left[os.write(self._writes, left) :]
        except BrokenPipeError:
            raise Gone from None

    def _receive(self) -> list:
        (size,) = HEADER.unpack(self._read(HEADER.size))
        if size > self.most:
            raise Unreadable(f"a message of {size} bytes, of {self.most} at most")
        try:
            message = json.loads(self._read(size))
        except (ValueError, RecursionError) as error:
            raise Unreadable(str(error)) from None
        if not (isinstance(message, list) and message and isinstance(message[0], str)):
            raise Unreadable("no message")
        return message

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = os.read(self._reads, min(size - len(data), 1 << 20))
            if not part:
                raise Gone
            data += part
        return bytes(data)

    def _export(self, value: Any) -> list:
        if isinstance(value, Remote) and object.__getattribute__(value, "_peer") is self:
            return ["yours", object.__getattribute__(value, "_number")]
        return ["mine", self.offer(value)]

    def _find(self, tag: str, number: int) -> Any:
        return self._objects[number] if tag == "yours" else Remote(self, int(number))


def _put_back(arguments: list, changed: list | None) -> None:
    """What a call did to its arguments, done to the originals."""
    for old, new in zip(arguments, changed or [], strict=False):
        if type(old) is not type(new):
            continue
        if isinstance(old, (list, bytearray)):
            old[:] = new
        elif isinstance(old, (dict, set)):
            old.clear()
            old.update(new)
        elif isinstance(old, deque):
            old.clear()
            old.extend(new)
        elif hasattr(old, "dtype") and old.shape == new.shape != ():
            old[...] = new


def _exception(name: str, arguments: list) -> BaseException:
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise Unreadable(f"an exception {name!r}")
    try:
        return kind(*arguments)
    except Exception:
        return Exception(name, *arguments)
