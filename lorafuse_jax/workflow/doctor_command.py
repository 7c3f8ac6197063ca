"""``lorafuse doctor``: what this machine has for the tool, and what would be slow or fail."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from lorafuse_jax import memory
from lorafuse_jax.assets.cache import cache_folder
from lorafuse_jax.doctor import accelerators, devices, packages, settings, storage
from lorafuse_jax.doctor.devices import Devices
from lorafuse_jax.doctor.finding import LEVELS, Finding
from lorafuse_jax.evaluation.sandbox.isolation import find_isolation
from lorafuse_jax.training.peak import PUBLISHED, matmul_peak
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.plan_command import host_memory
from lorafuse_jax.workflow.progress import console, print_table

STYLES = {"broken": "bold red", "limited": "yellow", "slow": "cyan"}
SMALL, LARGE = 135e6, 7e9
"""Parameters of two models that a rate is given for."""

REMEDIES = {
    "cache": "set LORAFUSE_CACHE to a folder of yours with room, as in "
    "LORAFUSE_CACHE=/data/lorafuse lorafuse fetch",
    "hub's cache": "set HF_HOME to a folder of yours with room, as in HF_HOME=/data/hub",
    "runs": "change to a folder of yours with room, or name one with --out",
}


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine and its Python have for the tool, and what would be slow or fail.

    lorafuse doctor

    Each finding says why it matters and what to do next. Takes a few seconds, changes nothing. The
    exit status is 1 if something is broken, and 0 if all is well, limited or only slow.
    """

    def run(self) -> None:
        """Look, show, and exit with 1 where something is broken."""
        found = show()
        if any(one.level == "broken" for one in found):
            sys.exit(1)


def show() -> list[Finding]:
    """Print everything; returns the findings, the worst first."""
    console.print(
        f"lorafuse_jax {packages.installed(packages.PROJECT) or '(not installed)'} · "
        f"Python {platform.python_version()} in {sys.prefix} · {platform.platform(terse=True)}",
        style="bold",
        markup=False,
    )
    seen, have = devices.devices(), accelerators.accelerators()
    places = [
        storage.place("cache", cache_folder()),
        storage.place("hub's cache", Path(HF_HUB_CACHE)),
        storage.place("runs", Path()),
    ]
    isolation, refused = _isolation()
    peak = matmul_peak() if seen.platform and not seen.error else None
    print_table(_machine(seen, peak, places, isolation))
    print_table(_packages())
    found = [
        *packages.findings(),
        *devices.findings(seen, _load()),
        *accelerators.findings(have, seen),
        *([] if have else slow_without_accelerator(seen, peak)),
        *storage.findings(places, REMEDIES),
        *refused,
        *settings.findings(),
    ]
    found.sort(key=lambda one: LEVELS.index(one.level))
    for one in found:
        console.print(f"[{STYLES[one.level]}]{one.level}[/]", end=" ")
        console.print(one.what, markup=False)
        console.print(f"  why: {one.why}", markup=False)
        console.print(f"  do:  {one.do}", markup=False)
    broken = sum(one.level == "broken" for one in found)
    console.print(
        f"{broken} broken" if broken else "nothing is broken; start with: lorafuse demo",
        style="bold red" if broken else "bold green",
    )
    return found


def slow_without_accelerator(seen: Devices, peak: float | None) -> Iterator[Finding]:
    """What a CPU means, in tokens."""
    if seen.platform != "cpu" or peak is None:
        return
    yield Finding(
        "slow",
        f"no accelerator: {devices.cores():g} CPU cores compute, in float32",
        "training takes four operations a parameter and token at least (forward, and back through "
        f"a frozen base): about {peak / 4 / SMALL:.2g} tokens/s at best for 135 million "
        f"parameters at this peak, and {peak / 4 / LARGE:.2g} for 7 billion",
        "small models serve here; lorafuse plan says what a run takes on a TPU or GPU",
    )


def _machine(
    seen: Devices, peak: float | None, places: list[storage.Place], isolation: str
) -> Table:
    table = _table("this machine", "", "")
    kinds = {kind: seen.kinds.count(kind) for kind in seen.kinds}
    listed = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    table.add_row("devices of jax", Text(listed or "none"))
    if seen.platform not in ("", "cpu") and seen.memory is not None:
        table.add_row("memory of each", f"{seen.memory / 1e9:.1f} GB free")
    if (host := memory.host_bytes()) is not None:
        table.add_row(
            "memory of the host", f"{host / 1e9:.1f} of {host_memory() / 1e9:.1f} GB free"
        )
    table.add_row("cores", f"{devices.cores():g} of {os.cpu_count()}")
    if peak is not None:
        how = "in bfloat16, published" if seen.kinds[0] in PUBLISHED else "in float32, measured"
        rate = f"{peak / 1e9:.0f} GFLOP/s" if peak < 1e12 else f"{peak / 1e12:.0f} TFLOP/s"
        table.add_row("matrix peak", f"{rate} {how}")
    held = storage.size(cache_folder()) / 1e9
    table.add_row("cache", Text(f"{cache_folder()}: {held:.1f} GB in it"))
    for one in places:
        table.add_row(f"disk of the {one.name}", f"{one.free / 1e9:.0f} GB free")
    table.add_row("programs of models", isolation)
    return table


def _packages() -> Table:
    table = _table("packages", "", "installed", "needed")
    rows = [("", package) for package in packages.required()]
    for extra in packages.extras():
        rows += [(f" [{extra}]", package) for package in packages.required(extra)]
    for extra, package in rows:
        style = "" if package.fits else "dim" if extra else "bold red"
        name, version = f"{package.name}{extra}", package.installed or "-"
        table.add_row(*map(Text, (name, version, package.needs)), style=style)
    return table


def _isolation() -> tuple[str, list[Finding]]:
    try:
        return f"isolated by {find_isolation()}", []
    except UserError as error:
        first, *rest = str(error).splitlines()
        why = " ".join(line.strip() for line in rest) or first
        finding = Finding(
            "limited",
            "programs that models write cannot be isolated here",
            f"humaneval and mbpp refuse to run them: {why}",
            "use a Linux machine or container that allows one of these, or evaluate with --unsafe",
        )
        return "not isolated: refused", [finding]


def _load() -> float | None:
    """Processes that want to run, the mean of a minute, on all cores of the host."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=SIMPLE, title_justify="left", title_style="bold")
    table.show_header = any(columns)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
