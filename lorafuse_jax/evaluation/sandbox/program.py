"""What is run, what it may take, and what became of it."""

from dataclasses import asdict, dataclass
from typing import Literal

from lorafuse_jax.types import UserError

Outcome = Literal["passed", "failed", "timed out", "out of memory"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and its test, which run in two processes.

    Attributes:
        source: Python that is not trusted; its ``__name__`` is not ``__main__``.
        test: Python that decides: the program passes if this runs to its end. Names that it does
            not define are the program's. The program cannot see it.
        entry_point: the function that is tested; it is the program's even where its name is that of
            a built-in.
    """

    source: str
    test: str
    entry_point: str = ""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program, and its test likewise, may take.

    Attributes:
        seconds: from start to end, both together.
        cpu_seconds: of the processor, each; whole ones.
        memory_bytes: of address space, each; 4 GiB as in EvalPlus.
        file_bytes: of the program's files, together.
        message_bytes: of one answer of the program's to its test.

    Raises:
        UserError: a limit is not positive.
    """

    seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 4 << 30
    file_bytes: int = 16 << 20
    message_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise UserError(f"a limit of {name}={value} lets nothing run; give a positive one")


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Attributes:
        outcome: only ``passed`` is a success.
        detail: what was raised, or which limit was met.
        seconds: it took.
    """

    outcome: Outcome
    detail: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the test ran to its end."""
        return self.outcome == "passed"
