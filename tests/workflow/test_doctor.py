"""``lorafuse doctor`` in environments that are not this one: each check says what it should."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import jax
import pytest

from lorafuse_jax import cli
from lorafuse_jax.doctor import accelerators, devices, packages, settings, storage
from lorafuse_jax.doctor.devices import Devices
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import doctor_command

ON_CPU = Devices("cpu", ("cpu",), 16_000_000_000)


@pytest.fixture
def site(tmp_path):
    """Installs packages that are nothing but metadata; returns the folder to look in."""

    def install(**versions: str | tuple[str, ...]) -> list[str]:
        folder = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
        tool = ("0.1.0", "Requires-Python: >=3.11", "Requires-Dist: jax>=0.7")
        tool += ("Requires-Dist: flax>=0.10.6", "Provides-Extra: log", "Provides-Extra: dev")
        tool += ('Requires-Dist: tensorboardX>=2.6; extra == "log"',)
        tool += ('Requires-Dist: writer>=1; extra == "log"', 'Requires-Dist: ruff; extra == "dev"')
        jax_lines = ("0.10.2", "Requires-Dist: jaxlib<=0.10.2,>=0.10.1", "Provides-Extra: cuda12")
        whole: dict[str, str | tuple[str, ...]] = {
            "lorafuse_jax": tool,
            "jax": (*jax_lines, "Provides-Extra: cuda13", "Provides-Extra: rocm7-local"),
            "jaxlib": "0.10.2",
            "flax": "0.12.8",
        }
        for name, lines in (whole | versions).items():
            version, *rest = [lines] if isinstance(lines, str) else lines
            if version:
                info = folder / f"{name}-{version}.dist-info"
                info.mkdir(parents=True)
                head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
                (info / "METADATA").write_text("\n".join([*head, *rest]) + "\n")
        return [str(folder)]

    return install


def test_packages_that_fit_give_nothing(site):
    path = site(tensorboardX="2.6.5", writer="1.0")
    assert list(packages.findings(path)) == []
    assert [p.name for p in packages.required(path=path)] == ["jax", "jaxlib", "flax"]
    assert packages.extras(path) == ["log"]
    assert all(p.fits for p in packages.required("log", path))


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ("0.10.5", "flax 0.10.5 is installed, needed is >=0.10.6"),
        ("", "flax is missing, needed is >=0.10.6"),
    ],
)
def test_a_package_below_its_bound_or_missing_is_broken_and_mended_by_pip(site, installed, said):
    (found,) = packages.findings(site(flax=installed))
    assert (found.level, found.what) == ("broken", said)
    assert found.do.endswith("install --upgrade 'flax>=0.10.6'")


def test_a_version_before_a_release_serves(site):
    assert not list(packages.findings(site(flax="0.13.0rc1")))


def test_jaxlib_that_is_not_for_jax_is_broken(site):
    (found,) = packages.findings(site(jaxlib="0.9.0"))
    assert found.level == "broken" and "jaxlib 0.9.0 is installed" in found.what
    assert "'jaxlib<=0.10.2,>=0.10.1'" in found.do


def test_packages_that_do_not_fit_each_other_are_found_far_down(site):
    path = site(
        flax=("0.12.8", "Requires-Dist: middle[fast]"),
        middle=("1.0", 'Requires-Dist: deep>=2; extra == "fast"', "Provides-Extra: fast"),
        deep="1.5",
    )
    (found,) = packages.findings(path)
    assert found.level == "limited"
    assert found.what == "deep 1.5 is installed, needed is >=2 by middle"


def test_an_extra_that_is_there_in_part_is_said_and_one_that_is_not_wanted_is_not(site):
    assert list(packages.findings(site())) == []
    (found,) = packages.findings(site(tensorboardX="2.6.5"))
    assert found.level == "limited" and "[log]" in found.what and "writer>=1" in found.do


def test_a_python_that_is_too_old_is_broken(site, monkeypatch):
    monkeypatch.setattr(packages.sys, "version_info", (3, 10, 4))
    (found,) = packages.findings(site())
    assert (found.level, found.what) == ("broken", "Python is 3.10.4, needed is >=3.11")


def test_a_tool_that_is_not_installed_has_no_bounds(site):
    (found,) = packages.findings(site(lorafuse_jax=""))
    assert found.level == "limited" and "install -e ." in found.do


def test_without_pip_the_line_is_for_uv(monkeypatch):
    assert packages.pip_install("a[b]>=1", "c") == f"{sys.executable} -m pip install 'a[b]>=1' c"
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert packages.pip_install("c") == f"uv pip install --python {sys.executable} c"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A root folder with device files; no programs of the real one are on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)

    def make(*files: str, chip: str = "", driver: str = "") -> list[accelerators.Accelerator]:
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        if chip:
            pci = tmp_path / "sys/bus/pci/devices/0000:00:05.0"
            pci.mkdir(parents=True)
            (pci / "vendor").write_text("0x1ae0\n")
            (pci / "device").write_text(chip + "\n")
        if driver:
            (tmp_path / "bin/nvidia-smi").write_text(f"#!/bin/sh\necho {driver}\n")
            (tmp_path / "bin/nvidia-smi").chmod(0o755)
        return accelerators.accelerators(tmp_path)

    return make


@pytest.mark.parametrize(
    ("driver", "line"), [("580.65.06", "cuda13"), ("535.1", "cuda12"), ("", "cuda12")]
)
def test_a_gpu_that_jax_has_no_plugin_for_is_slow_and_pip_brings_it(machine, site, driver, line):
    have = machine("dev/nvidia0", "dev/nvidiactl", driver=driver)
    (found,) = accelerators.findings(have, ON_CPU, site())
    assert found.level == "slow" and "an NVIDIA GPU (/dev/nvidia0)" in found.what
    assert "not installed" in found.why
    assert found.do.endswith(f"pip install 'jax[{line}]==0.10.2'")


def test_a_plugin_of_another_jaxlib_is_named(machine, site):
    path = site(jax_cuda12_plugin="0.9.1")
    (found,) = accelerators.findings(machine("dev/nvidia0"), ON_CPU, path)
    assert "jax-cuda12-plugin 0.9.1 is not for jaxlib 0.10.2" in found.why
    assert "jax[cuda12]==0.10.2" in found.do


def test_a_plugin_that_fits_and_does_not_start_is_a_matter_of_the_driver(machine, site):
    path = site(jax_cuda12_plugin="0.10.2")
    (found,) = accelerators.findings(machine("dev/nvidia0"), ON_CPU, path)
    assert "did not start" in found.why and "nvidia-smi" in found.do


def test_an_environment_that_forbids_the_gpu_is_to_blame(machine, site, monkeypatch):
    have = machine("dev/nvidia0")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    (found,) = accelerators.findings(have, ON_CPU, site())
    assert (found.why, found.do) == ("JAX_PLATFORMS=cpu keeps jax from it", "unset JAX_PLATFORMS")


def test_a_tpu_without_libtpu_and_with_it(machine, site):
    have = machine("dev/vfio/0", chip="0x0063")
    (found,) = accelerators.findings(have, ON_CPU, site())
    assert "a TPU v5e (/dev/vfio/0)" in found.what and "libtpu is not installed" in found.why
    assert "'jax[tpu]==0.10.2'" in found.do


def test_a_tpu_that_libtpu_does_not_start_may_be_taken(machine, site):
    (found,) = accelerators.findings(
        machine("dev/accel0", chip="0x005e"), ON_CPU, site(libtpu="0.0.42")
    )
    assert "another process may hold the TPU" in found.why


def test_an_amd_gpu_takes_what_this_jax_offers(machine, site):
    (found,) = accelerators.findings(machine("dev/kfd"), ON_CPU, site())
    assert "an AMD GPU (/dev/kfd)" in found.what and "jax[rocm7-local]==0.10.2" in found.do


def test_what_the_container_was_not_given_or_is_no_tpu_is_not_there(machine):
    assert machine("dev/null", "dev/nvidiactl") == []
    assert machine(chip="0x0063") == []


def test_a_network_card_of_the_same_maker_is_no_tpu(machine):
    assert machine("dev/vfio/0", chip="0x0042") == []


def test_a_gpu_that_jax_uses_is_no_finding(machine, site):
    seen = Devices("gpu", ("NVIDIA H100 80GB HBM3",), 80_000_000_000)
    assert not list(accelerators.findings(machine("dev/nvidia0"), seen, site()))


def test_this_machine_computes():
    seen = devices.devices()
    assert seen.platform == "cpu" and not seen.error and (seen.memory or 0) > 0
    assert 0 < devices.cores() <= (os.cpu_count() or 0)


def test_jax_without_a_device_is_broken(monkeypatch):
    def refuse() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda': no GPU\nmore")

    monkeypatch.setattr(jax, "local_devices", refuse)
    seen = devices.devices()
    (found,) = devices.findings(seen, None)
    assert found.level == "broken" and found.what.endswith("'cuda': no GPU")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    (found,) = devices.findings(seen, None)
    assert found.do == "unset JAX_PLATFORMS"


@pytest.mark.parametrize("fault", ["raises", "wrong"])
def test_a_device_that_does_not_compute_is_broken(monkeypatch, fault):
    def broken(*_):
        if fault == "raises":
            raise RuntimeError("out of memory")
        return 27.0

    monkeypatch.setattr(devices.jax, "jit", lambda _: broken)
    (found,) = devices.findings(devices.devices(), None)
    assert found.level == "broken" and "does not compute" in found.what
    assert ("out of memory" if fault == "raises" else "is 27.0") in found.what


def test_little_memory_limits_and_a_busy_host_is_slow():
    assert not list(devices.findings(ON_CPU, 0.0))
    (little,) = devices.findings(ON_CPU._replace(memory=3_000_000_000), None)
    assert little.level == "limited" and little.what.startswith("3.0 GB")
    (busy,) = devices.findings(ON_CPU, 1 + 2.0 * (os.cpu_count() or 1))
    assert busy.level == "slow" and "processes want to run" in busy.what


REMEDIES = {"cache": "move it", "runs": "go elsewhere"}


def test_a_folder_that_cannot_be_written_is_broken_and_nothing_is_left_in_one_that_can(tmp_path):
    (tmp_path / "file").write_text("no folder")
    good = storage.place("runs", tmp_path / "new" / "folder")
    bad = storage.place("cache", tmp_path / "file" / "cache")
    assert good.writable and [file.name for file in tmp_path.iterdir()] == ["file"]
    roomy = [one._replace(free=10**12) for one in (good, bad)]
    (found,) = storage.findings(roomy, REMEDIES)
    assert found.level == "broken" and "file/cache cannot be written" in found.what
    assert found.do == "move it"


@pytest.mark.parametrize(
    ("free", "levels"), [(5 * 10**8, ["broken"]), (10**10, ["limited"]), (10**11, [])]
)
def test_a_disk_with_little_room_is_said_once(tmp_path, monkeypatch, free, levels):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage(free))
    places = [storage.place(name, tmp_path) for name in REMEDIES]
    assert [found.level for found in storage.findings(places, REMEDIES)] == levels


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"x" * 100)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 23)
    assert storage.size(tmp_path) == 123
    assert storage.size(tmp_path / "nowhere") == 0


def test_settings_that_slow_programs_are_told(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x --xla_backend_optimization_level=3")
    assert list(settings.findings()) == []
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    assert [found.do for found in settings.findings()] == ["unset XLA_FLAGS"]
    monkeypatch.delenv("XLA_FLAGS")
    with jax.disable_jit(), jax.debug_nans(True):
        told = [found.do for found in settings.findings()]
    assert told == ["unset JAX_DISABLE_JIT", "unset JAX_DEBUG_NANS"]


def doctor(monkeypatch, capsys) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["lorafuse", "doctor"])
    monkeypatch.setattr(accelerators, "accelerators", lambda: [])
    monkeypatch.setattr(packages, "findings", lambda: [])
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: namedtuple("u", "free")(10**12))
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0), capsys.readouterr().out
    return 0, capsys.readouterr().out


def test_all_is_shown_and_slowness_is_no_failure(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LORAFUSE_CACHE", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    status, text = doctor(monkeypatch, capsys)
    assert status == 0
    for part in ("GFLOP/s in float32, measured", "jaxlib", str(tmp_path), f"{jax.__version__} "):
        assert part in text
    assert "no accelerator" in text and "do:  unset XLA_FLAGS" in text
    assert "nothing is broken" in text


def test_without_isolation_programs_are_refused_and_the_rest_serves(monkeypatch, capsys):
    def refuse() -> None:
        raise UserError("programs cannot be isolated:\n  landlock: not in this kernel")

    monkeypatch.setattr(doctor_command, "find_isolation", refuse)
    status, text = doctor(monkeypatch, capsys)
    assert status == 0 and "limited programs that models write" in text
    assert "landlock: not in this kernel" in text


def test_what_is_broken_stands_first_and_is_the_exit_status(monkeypatch, capsys):
    monkeypatch.setattr(doctor_command.devices, "devices", lambda: Devices(error="no such thing"))
    status, text = doctor(monkeypatch, capsys)
    findings = [line for line in text.splitlines() if line.startswith(("broken", "limited"))]
    assert status == 1 and findings[0] == "broken jax finds no device: no such thing"
    assert "1 broken" in text and "matrix peak" not in text


def test_where_the_packages_do_not_load_the_one_to_blame_is_named(site, tmp_path):
    (folder,) = site(lorafuse_jax="", jax="", jaxlib="", flax="0.9.0")
    (Path(folder) / "flax").mkdir()
    (Path(folder) / "flax" / "__init__.py").write_text("raise ImportError('too old for this')\n")
    source = str(Path(packages.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, source])}
    command = [sys.executable, "-m", "lorafuse_jax", "doctor"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "does not start: ImportError: too old for this" in ended.stderr
    assert "flax 0.9.0 is installed, needed is >=0.10.6" in ended.stderr
    assert "install --upgrade 'flax>=0.10.6'" in ended.stderr
