"""A limit of a container is read from the files that the system shows it in."""

from pathlib import Path

import pytest

from lorafuse_jax import control_groups, memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes the process's membership and its groups' files."""

    def write(membership: str, files: dict[str, str]) -> None:
        (tmp_path / "cgroup").write_text(membership)
        for name, text in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    monkeypatch.setattr(control_groups, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    return write


def test_version_two_and_the_tightest_of_the_groups_around(groups):
    files = {
        "slice/memory.max": "1000\n",
        "slice/memory.current": "700\n",
        "slice/memory.stat": "anon 600\ninactive_file 50\n",
        "slice/job/memory.max": "max\n",
        "slice/job/memory.current": "600\n",
        "slice/job/cpu.max": "150000 100000\n",
        "slice/cpu.max": "max 100000\n",
    }
    groups("0::/slice/job\n", files)
    assert control_groups.memory_left() == 350
    assert control_groups.cores() == 1.5


def test_version_one(groups):
    files = {
        "memory/box/memory.limit_in_bytes": "1000\n",
        "memory/box/memory.usage_in_bytes": "900\n",
        "memory/box/memory.stat": "inactive_file 1\ntotal_inactive_file 20\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "cpu/box/cpu.cfs_quota_us": "50000\n",
        "cpu/box/cpu.cfs_period_us": "100000\n",
    }
    groups("5:memory:/box\n4:cpu,cpuacct:/box\n0::/\n", files)
    assert control_groups.memory_left() == 120
    assert control_groups.cores() == 0.5


def test_no_limit_and_no_linux(groups, monkeypatch):
    groups("0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"})
    assert control_groups.memory_left() is None
    assert control_groups.cores() is None
    monkeypatch.setattr(control_groups, "MEMBERSHIP", Path("/nowhere"))
    assert control_groups.memory_left() is None


def test_a_container_has_no_more_than_its_limit(groups):
    free = memory.host_bytes() or 0
    gigabyte = 1 << 30
    groups("0::/\n", {"memory.max": f"{gigabyte}\n", "memory.current": f"{gigabyte // 2}\n"})
    assert memory.host_bytes() == gigabyte // 2 < free
    assert memory.available_bytes() == gigabyte // 2
