"""Installed packages against what the installed tool's own metadata asks for."""

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution
from importlib.util import find_spec
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lorafuse_jax.doctor.finding import Finding

PROJECT = "lorafuse-jax"
FOR_DEVELOPERS = ("dev",)
"""Extras that nobody needs who only uses the tool."""

Path = Sequence[str] | None
"""Folders to look for packages in; ``None`` is where Python itself looks."""


class Package(NamedTuple):
    """A package that is asked for.

    Attributes:
        name: as the package index has it.
        installed: its version; empty where it is missing.
        needs: the versions that serve, as in ``>=0.7``.
        by: who asks.
    """

    name: str
    installed: str
    needs: str
    by: str

    @property
    def fits(self) -> bool:
        """Whether a version that serves is there; one before a release counts as that release."""
        serves = SpecifierSet(self.needs, prereleases=True)
        return bool(self.installed) and serves.contains(self.installed)

    @property
    def wanted(self) -> str:
        """As pip takes it."""
        return f"{self.name}{self.needs}"


def installed(name: str, path: Path = None) -> str:
    """The version of a package; empty where it is not installed."""
    found = _distribution(name, path)
    return found.version if found else ""


def required(extra: str = "", path: Path = None) -> list[Package]:
    """What the tool asks for directly, or what one of its extras adds; jaxlib after jax."""
    found = _distribution(PROJECT, path)
    listed: list[Package] = []
    for need in _needs(found, extra) if found else ():
        listed.append(_package(need, PROJECT, path))
        jax = _distribution("jax", path) if need.name == "jax" else None
        for inner in _needs(jax) if jax else ():
            if inner.name == "jaxlib":
                listed.append(_package(inner, "jax", path))
    return listed


def extras(path: Path = None) -> list[str]:
    """Names of the tool's extras, as in ``pip install 'lorafuse-jax[eval]'``."""
    return [name for name in extras_of(PROJECT, path) if name not in FOR_DEVELOPERS]


def extras_of(name: str, path: Path = None) -> list[str]:
    """Names of a package's extras."""
    found = _distribution(name, path)
    return found.metadata.get_all("Provides-Extra") or [] if found else []


def conflicts(path: Path = None) -> list[Package]:
    """What packages of the tool and of its whole extras ask of each other in vain, however deep."""
    whole = [one for one in extras(path) if all(package.fits for package in required(one, path))]
    waiting = [(PROJECT, extra) for extra in ("", *whole)]
    seen, wrong = set(waiting), []
    while waiting:
        name, extra = waiting.pop()
        found = _distribution(name, path)
        for need in _needs(found, extra) if found else ():
            package = _package(need, name, path)
            if not package.fits:
                wrong.append(package)
                continue
            further = {(package.name, asked) for asked in ("", *need.extras)} - seen
            seen |= further
            waiting += sorted(further)
    return [package for package in wrong if package.by != PROJECT]


def findings(path: Path = None) -> Iterator[Finding]:
    """What is missing or too old, with the command that mends it."""
    found = _distribution(PROJECT, path)
    if found is None:
        yield Finding(
            "limited",
            f"{PROJECT} is not installed: it runs from its source",
            "which versions of other packages it needs cannot be looked up",
            pip_install("-e", "."),
        )
        return
    python = (found.metadata.get_all("Requires-Python") or [""])[0]
    running = "{}.{}.{}".format(*sys.version_info)
    if not SpecifierSet(python).contains(running):
        yield Finding(
            "broken",
            f"Python is {running}, needed is {python}",
            "the source uses what older versions do not have",
            "make a virtual environment of a newer Python, and install there",
        )
    unfit = [package for package in required(path=path) if not package.fits]
    if unfit:
        yield Finding(
            "broken",
            "; ".join(map(_said, unfit)),
            "commands fail where they need it, or compute something else than was tested",
            pip_install("--upgrade", *(package.wanted for package in unfit)),
        )
    known = {package.name for package in unfit}
    if deeper := [package for package in conflicts(path) if package.name not in known]:
        yield Finding(
            "limited",
            "; ".join(f"{_said(package)} by {package.by}" for package in deeper),
            f"{', '.join(sorted({package.by for package in deeper}))} may fail",
            pip_install(*(package.wanted for package in deeper)),
        )
    for extra in extras(path):
        missing = [package for package in required(extra, path) if not package.fits]
        if missing and any(package.fits for package in required(extra, path)):
            yield Finding(
                "limited",
                f"[{extra}] is there in part: {'; '.join(map(_said, missing))}",
                "what needs the rest refuses",
                pip_install("--upgrade", *(package.wanted for package in missing)),
            )


def pip_install(*what: str) -> str:
    """The command that installs into this very Python."""
    pip = f"{sys.executable} -m pip install"
    if find_spec("pip") is None:
        pip = f"uv pip install --python {sys.executable}"
    return " ".join([pip, *(f"'{word}'" if set(word) & set("<>[]*!~;") else word for word in what)])


def _said(package: Package) -> str:
    have = f"{package.installed} is installed" if package.installed else "is missing"
    return f"{package.name} {have}, needed is {package.needs or 'any version'}"


def _package(need: Requirement, by: str, path: Path) -> Package:
    name = canonicalize_name(need.name)
    return Package(name, installed(need.name, path), str(need.specifier), by)


def _needs(found: Distribution, extra: str = "") -> Iterator[Requirement]:
    """Requirements that hold on this system: without an extra, or those that it adds."""
    for text in found.requires or ():
        try:
            need = Requirement(text)
        except InvalidRequirement:
            continue  # of an old package; pip refuses to read it as well
        always = need.marker is None or need.marker.evaluate({"extra": ""})
        added = need.marker is not None and need.marker.evaluate({"extra": extra})
        if (always and not extra) or (added and not always):
            yield need


def _distribution(name: str, path: Path) -> Distribution | None:
    where = sys.path if path is None else list(path)
    return next(iter(Distribution.discover(name=name, path=where)), None)
