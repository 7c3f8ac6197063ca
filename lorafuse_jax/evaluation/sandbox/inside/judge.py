"""The test's process: runs the test, in which the program is a set of handles on another process.

It says ``passed`` when the test code has run to its end, here, where no code of the program's ever
runs; and the program still lives then.
"""

import builtins
import importlib
import sys
import traceback
from types import CodeType
from typing import Any

from .remote import Gone, Peer
from .values import Unreadable

TEST = "<test>"
MOST_DETAIL = 500


def judge(peer: Peer, test: str, entry_point: str) -> dict[str, str]:
    """The outcome, and what was raised; ``ended`` where the program's process is gone.

    Args:
        peer: at whose other end ``program.serve`` waits.
        test: Python; its names that it does not define are the program's.
        entry_point: such a name even where it hides a built-in.
    """
    try:
        code = compile(test, TEST, "exec", dont_inherit=True)
        names = names_in(code) - (vars(builtins).keys() - {entry_point})
        found = peer.ask("call", 0, [names], {})
        exec(code, {"__name__": "test", **_trusted(found, entry_point)})
        peer.ask("bool", 0)
    except Gone:
        return {"outcome": "ended", "detail": ""}
    except Unreadable as error:
        return {"outcome": "failed", "detail": f"the program wrote to its test: {error}"}
    except MemoryError:
        return {"outcome": "out of memory", "detail": "MemoryError"}
    except BaseException as error:
        return {"outcome": "failed", "detail": _describe(error)}
    return {"outcome": "passed", "detail": ""}


def names_in(code: CodeType) -> set[str]:
    """Every name that may be looked up as a global in the code, or in a function of it."""
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*map(names_in, inner))


def _trusted(found: Any, entry_point: str) -> dict[str, Any]:
    """The program's names; a module of the standard library is imported here, whatever it says."""
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise Unreadable("no names")
    modules = (found.keys() & sys.stdlib_module_names) - {entry_point}
    return found | {name: importlib.import_module(name) for name in modules}


def _describe(error: BaseException) -> str:
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == TEST
    ]
    try:
        said = str(error)
    except BaseException:
        said = ""
    where = f" (line {lines[-1]} of the test)" if lines else ""
    return f"{type(error).__name__}{': ' if said else ''}{said[:MOST_DETAIL]}{where}"
