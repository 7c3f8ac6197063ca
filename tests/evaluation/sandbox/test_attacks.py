"""Wrong programs never pass, and none reaches the machine: real processes, every kind of isolation.

Which kinds there are depends on the machine; those that it refuses are skipped, and at least one
must be there.
"""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import lorafuse_jax
from lorafuse_jax.evaluation.sandbox import Limits, Program, Verdict
from lorafuse_jax.evaluation.sandbox.isolation import WAYS, Kind, find_isolation
from lorafuse_jax.evaluation.sandbox.warden import ask_warden
from tests.evaluation.sandbox import forgeries, intrusions

FORGERIES = {
    **forgeries.ENDINGS,
    **forgeries.PATCHES,
    **forgeries.VALUES,
    **forgeries.SEARCHES,
    **forgeries.MESSAGES,
}
LIMITS = Limits(seconds=20.0, cpu_seconds=10, memory_bytes=1 << 30)
NUMBERS = {"x86_64": "TKILL, CLONES = 200, (56, 57, 58)", "aarch64": "TKILL, CLONES = 130, (220,)"}


@pytest.fixture
def victim() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        assert process.poll() is None, "a program ended another's process"
        process.kill()


def run_all(
    programs: dict[str, Program], kind: Kind, limits: Limits = LIMITS
) -> dict[str, Verdict]:
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda program: ask_warden(program, limits, kind), programs.values())
        return dict(zip(programs, verdicts, strict=True))


def test_this_machine_can_isolate():
    assert find_isolation() in WAYS


@pytest.mark.parametrize("kind", ["the first that works", "landlock"], indirect=True)
def test_no_forgery_passes(kind):
    pairs = {
        name: (given, forgeries.TEST) if isinstance(given, str) else given
        for name, given in FORGERIES.items()
    }
    programs = {name: Program(source=source, test=test) for name, (source, test) in pairs.items()}
    verdicts = run_all(programs, kind)
    passed = [name for name, verdict in verdicts.items() if verdict.outcome != "failed"]
    assert passed == []


def test_no_intrusion_gets_anything(kind, victim, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "of the tester's")
    (tmp_path / "secret").write_text("kept")
    inherited = os.open(tmp_path / "secret", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    before = (tmp_path / "secret").stat()
    project = [lorafuse_jax.__file__, __file__]
    test = intrusions.TEST.format(place=str(tmp_path), victim=victim)
    head = f"{intrusions.HEAD}\nPROJECT = {project}\n{NUMBERS[os.uname().machine]}\n"
    programs = {
        name: Program(source=head + source, test=test)
        for name, source in intrusions.INTRUSIONS.items()
    }
    verdicts = run_all(programs, kind)
    os.close(inherited)
    assert [verdict for verdict in verdicts.values() if not verdict.passed] == []
    assert os.listdir(tmp_path) == ["secret"]
    after = (tmp_path / "secret").stat()
    assert (after.st_mode, after.st_mtime, after.st_size) == (before.st_mode, before.st_mtime, 4)
