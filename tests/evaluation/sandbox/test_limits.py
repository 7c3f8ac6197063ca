"""What a program may take: each limit ends it, says so, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import lorafuse_jax
from lorafuse_jax.evaluation.sandbox import Limits, Program, Verdict
from lorafuse_jax.evaluation.sandbox.isolation import Kind, find_isolation
from lorafuse_jax.evaluation.sandbox.warden import ask_warden
from lorafuse_jax.types import UserError

FORGIVING = Limits(seconds=20.0, cpu_seconds=20)


def verdict_on(
    source: str, kind: Kind, test: str = "assert f() is None", **limits: float
) -> Verdict:
    return ask_warden(Program(source=source, test=test), Limits(**limits), kind)


@pytest.mark.parametrize(
    "body",
    ["while True: pass", "import time; time.sleep(100)", "print('x' * 10000, end='')"],
    ids=["busy", "asleep", "printing"],
)
def test_program_that_does_not_end_is_ended(kind, body):
    source = f"def f():\n    while True:\n        {body}"
    verdict = verdict_on(source, kind, seconds=0.5)
    assert verdict.outcome == "timed out"
    assert verdict.detail == "ran for more than 0.5 s"


def test_test_that_does_not_end_is_ended(kind):
    verdict = verdict_on("", kind, test="while True: pass", seconds=0.5)
    assert verdict.outcome == "timed out"


def test_processor_time_is_bounded_though_the_signal_is_ignored():
    source = (
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "def f():\n    while True: pass"
    )
    verdict = verdict_on(source, find_isolation(), seconds=60.0, cpu_seconds=1)
    assert (verdict.outcome, verdict.detail) == ("timed out", "took more than 1 s of the processor")


@pytest.mark.parametrize(
    "body", ["x = bytes(1 << 40)", "x = []\n    while True: x.append(bytes(1 << 24))"]
)
def test_memory_is_bounded(kind, body):
    verdict = verdict_on(f"def f():\n    {body}", kind, seconds=20.0, memory_bytes=1 << 28)
    assert verdict.outcome == "out of memory"


def test_answer_is_bounded(kind):
    verdict = verdict_on("def f(): return 'x' * 2000", kind, message_bytes=1000)
    assert verdict.outcome == "failed"
    assert "1000 at most" in verdict.detail


def test_detail_is_bounded(kind):
    verdict = verdict_on("def f(): raise ValueError('x' * 1000000)", kind)
    assert verdict.outcome == "failed"
    assert len(verdict.detail) < 1000


def test_files_are_bounded_together(kind):
    source = (
        "import time\n"
        "def f():\n"
        "    for n in range(40):\n"
        "        with open(f'file-{n}', 'wb') as file: file.write(bytes(1 << 18))\n"
        "    time.sleep(30)"
    )
    verdict = verdict_on(source, kind, seconds=25.0, file_bytes=1 << 20)
    assert verdict.outcome == "failed"
    assert "No space left" in verdict.detail or "more than 1048576 bytes" in verdict.detail


def test_program_may_use_its_own_folder_which_is_removed(kind, monkeypatch):
    source = (
        "import os, tempfile\n"
        "def f():\n"
        "    with open('a', 'w') as file: file.write('kept')\n"
        "    os.makedirs('b/c')\n"
        "    with tempfile.NamedTemporaryFile() as file: file.write(b'x')\n"
        "    os.mkdir('closed', 0)\n"
        "    return open('a').read()"
    )
    # Not in a folder of pytest's, which only its owner may enter.
    with tempfile.TemporaryDirectory() as own:
        os.chmod(own, 0o755)
        monkeypatch.setattr(tempfile, "tempdir", own)
        verdict = verdict_on(source, kind, test="assert f() == 'kept'")
        assert verdict.passed, verdict
        assert os.listdir(own) == []


def test_thread_and_event_loop_work_where_threads_can_be_counted(kind):
    source = "import asyncio\nasync def one(): return 1\ndef f(): return asyncio.run(one())"
    assert verdict_on(source, kind, test="assert f() == 1").passed


def test_limits_that_let_nothing_run_are_refused():
    with pytest.raises(UserError, match="cpu_seconds=0 lets nothing run"):
        Limits(cpu_seconds=0)


ASK = """
import sys, types  # the package, without the import of JAX
sys.modules["lorafuse_jax"] = package = types.ModuleType("lorafuse_jax")
package.__path__ = [{package!r}]
from lorafuse_jax.evaluation.sandbox import Limits, Program
from lorafuse_jax.evaluation.sandbox.warden import ask_warden
asleep = Program(source="import time\\ntime.sleep(300)", test="")
ask_warden(asleep, Limits(seconds=300.0), {kind!r})
"""


def descendants(process: int) -> set[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = status.read_text().rsplit(")", 1)
        except OSError:
            continue
        parents[int(number.split()[0])] = int(rest.split()[1])
    found, new = set(), {process}
    while new:
        new = {number for number, parent in parents.items() if parent in new} - found
        found |= new
    return found


def test_nothing_outlives_the_process_that_asked(kind, tmp_path):
    code = ASK.format(kind=kind, package=str(Path(lorafuse_jax.__file__).parent))
    # The asking process is killed before it could remove the program's folder.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as asker:
        until = time.monotonic() + 120
        while len(started := descendants(asker.pid)) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        asker.send_signal(signal.SIGKILL)
    assert len(started) == 3
    while any(map(is_alive, started)) and time.monotonic() < until:
        time.sleep(0.05)
    assert [number for number in started if is_alive(number)] == []


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
