"""The program's process: loads the program when the test asks for its names, and is called."""

import sys
from types import ModuleType
from typing import Any

from .remote import Peer

NAME = "program"


def serve(peer: Peer, source: str) -> None:
    """Answer the test's process until it ends.

    As in the benchmarks' own runners, ``__name__`` is not ``__main__``.
    """
    module = ModuleType(NAME)
    sys.modules[NAME] = module

    def load(names: set[str]) -> dict[str, Any]:
        exec(compile(source, f"<{NAME}>", "exec", dont_inherit=True), module.__dict__)
        return {name: module.__dict__[name] for name in names & module.__dict__.keys()}

    peer.offer(load)
    peer.serve()
