"""What the machine has, from its device files, against what jax sees."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lorafuse_jax.doctor import packages
from lorafuse_jax.doctor.devices import Devices
from lorafuse_jax.doctor.finding import Finding

GOOGLE = "0x1ae0"
TPUS = {
    "0x0027": "v2 or v3",
    "0x005e": "v4",
    "0x0062": "v5p",
    "0x0063": "v5e",
    "0x006f": "v6e",
    "0x0076": "7x",
}
"""PCI numbers of the chips, as jax's ``hardware_utils`` has them."""

CUDA_13_DRIVER = 580
"""The first major version of NVIDIA's driver that runs CUDA 13; older ones run CUDA 12."""

ASK_SECONDS = 5


class Accelerator(NamedTuple):
    """A kind of accelerator that this machine has.

    Attributes:
        maker: whose software it takes.
        name: for people.
        sign: the device file that shows it.
    """

    maker: Literal["nvidia", "amd", "google"]
    name: str
    sign: str


def accelerators(root: Path = Path("/")) -> list[Accelerator]:
    """What the device files say; a container that was not given a device does not have its file."""
    found = []
    nvidia = [*sorted(root.glob("dev/nvidia[0-9]*")), *root.glob("dev/dxg")]
    if nvidia:
        found.append(Accelerator("nvidia", "NVIDIA GPU", _shown(nvidia[0], root)))
    if (root / "dev/kfd").exists():
        found.append(Accelerator("amd", "AMD GPU", "/dev/kfd"))
    handles = [*sorted(root.glob("dev/accel[0-9]*")), *sorted(root.glob("dev/vfio/[0-9]*"))]
    chips = sorted({TPUS[number] for number in _google_chips(root) if number in TPUS})
    if handles and chips:
        found.append(Accelerator("google", f"TPU {chips[0]}", _shown(handles[0], root)))
    return found


def nvidia_driver() -> int | None:
    """Major version of NVIDIA's driver; ``None`` where ``nvidia-smi`` does not say it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS)
        return int(answer.stdout.split(".")[0])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def findings(
    have: list[Accelerator], seen: Devices, path: packages.Path = None
) -> Iterator[Finding]:
    """Accelerators that jax does not use, and how it comes to."""
    if seen.platform != "cpu":
        return
    for one in have:
        what = f"jax computes on the CPU, though this machine has an {one.name} ({one.sign})"
        if one.maker == "google":
            what = what.replace("an TPU", "a TPU")
        platforms = os.environ.get("JAX_PLATFORMS", "")
        if platforms == "cpu":
            why, do = "JAX_PLATFORMS=cpu keeps jax from it", "unset JAX_PLATFORMS"
        else:
            why, do = _software(one, path)
        yield Finding("slow", what, why, do)


def _software(one: Accelerator, path: packages.Path) -> tuple[str, str]:
    """Why jax does not see it, and what to install."""
    jax = packages.installed("jax", path)
    jaxlib = packages.installed("jaxlib", path)
    if one.maker == "google":
        line = packages.pip_install(f"jax[tpu]=={jax}")
        if not packages.installed("libtpu", path):
            return "libtpu is not installed", line
        return (
            "libtpu is installed; another process may hold the TPU, or its version does not fit",
            f"JAX_PLATFORMS=tpu python -c 'import jax; jax.devices()' says why; then: {line}",
        )
    if one.maker == "amd":
        extra = next((name for name in packages.extras_of("jax", path) if "rocm" in name), "")
        do = "see ROCm in jax's installation page"
        return "jax has no plugin for it here", (
            packages.pip_install(f"jax[{extra}]=={jax}") if extra else do
        )
    driver = nvidia_driver()
    offered = packages.extras_of("jax", path)
    cuda = "cuda13" if (driver or 0) >= CUDA_13_DRIVER and "cuda13" in offered else "cuda12"
    line = packages.pip_install(f"jax[{cuda}]=={jax}")
    plugins = {
        name: packages.installed(name, path) for name in ("jax-cuda13-plugin", "jax-cuda12-plugin")
    }
    there = {name: version for name, version in plugins.items() if version}
    if not there:
        return "jax's CUDA plugin is not installed", line
    if jaxlib not in there.values():
        said = ", ".join(f"{name} {version}" for name, version in there.items())
        return f"{said} is not for jaxlib {jaxlib}, and jax leaves it aside", line
    return (
        "jax's CUDA plugin is installed, and did not start: the driver may be too old or missing",
        "nvidia-smi, and JAX_PLATFORMS=cuda python -c 'import jax; jax.devices()', say why",
    )


def _google_chips(root: Path) -> Iterator[str]:
    for vendor in root.glob("sys/bus/pci/devices/*/vendor"):
        try:
            if vendor.read_text().strip() == GOOGLE:
                yield vendor.with_name("device").read_text().strip()
        except OSError:
            continue


def _shown(file: Path, root: Path) -> str:
    return f"/{file.relative_to(root)}"
