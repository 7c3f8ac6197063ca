"""Stopping between two steps when a signal asks for it, so that nothing is lost."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """The work was stopped by a signal and is saved; says where it stands.

    The command line prints its message and exits with ``status``: 130 for Ctrl-C, 143 for SIGTERM,
    as a shell shows a process that the signal killed.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number


class StopRequest:
    """Whether a signal came; the first of them counts."""

    signal_number: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal_number is not None

    def settle(self, signals: Sequence[int | None]) -> None:
        """Of all hosts' signals the first counts, here too."""
        self.signal_number = next((one for one in signals if one is not None), None)

    def stopped(self, where: str) -> Stopped:
        """What to raise, saying where the work stands."""
        assert self.signal_number is not None
        is_key = self.signal_number == signal.SIGINT
        name = "Ctrl-C" if is_key else signal.Signals(self.signal_number).name
        message = f"stopped by {name}: {where}; the same command goes on from here"
        return Stopped(message, self.signal_number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block the first Ctrl-C or SIGTERM is a request; the second acts as it did before.

    Outside of the main thread, where Python handles no signals, nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def reset() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        request.signal_number = number
        reset()
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; the same signal again stops at once\n")

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        reset()
