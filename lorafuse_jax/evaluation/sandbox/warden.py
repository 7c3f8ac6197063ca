"""One program under a warden: a bare interpreter that isolates, watches and answers."""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorafuse_jax.evaluation.sandbox.program import Limits, Program, Verdict

START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from inside.warden import main; del sys.path[0]; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
FLAGS = ("-P", "-s", "-S")
"""No folder of the caller's on the path, and nothing that site packages run at the start."""

GRACE_SECONDS = 60.0
"""How long a warden may take besides the program's time, before it is given up."""

SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store"),
    *("/etc/ld.so.cache", "/usr/share/zoneinfo"),
)
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same order of sets in every run
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Refused(Exception):
    """The system does not permit this kind of isolation; says what was refused."""


def ask_warden(program: Program, limits: Limits, kind: str) -> Verdict:
    """Run one program.

    Args:
        program: and its test.
        limits: of both.
        kind: of ``isolation.Kind``.

    Raises:
        Refused: nothing was run.
        RuntimeError: the warden itself failed, for which the program has no means.
    """
    job = {
        **asdict(limits),
        "source": program.source,
        "entry_point": program.entry_point,
        "kind": kind,
        "readable": readable_places(),
        "libraries": libraries(),
    }
    answer = _answer(job, program.test, limits.seconds + GRACE_SECONDS)
    if "refused" in answer:
        raise Refused(answer["refused"])
    return Verdict(**answer)


def libraries() -> list[str]:
    """Where this interpreter's packages are: programs may import them."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def readable_places() -> list[str]:
    """What Python needs to run: its library, packages and the system's libraries."""
    own = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    places = {*own, os.path.join(sys.base_prefix, "lib"), *libraries(), *SYSTEM}
    return sorted(
        place
        for place in map(os.path.abspath, places)
        if not any(place.startswith(f"{other}/") for other in places)
    )


def _answer(job: dict[str, Any], test: str, seconds: float) -> dict[str, Any]:
    hears, holds = os.pipe()  # its end tells the warden of ours
    try:
        with (
            tempfile.TemporaryDirectory(prefix="lorafuse-program-") as folder,
            tempfile.TemporaryFile() as job_file,
            tempfile.TemporaryFile() as test_file,
        ):
            job_file.write(json.dumps({**job, "folder": folder}).encode())
            test_file.write(test.encode(errors="surrogatepass"))
            for file in (job_file, test_file):
                file.seek(0)
            files = (job_file.fileno(), test_file.fileno())
            code = [START, str(Path(__file__).parent), *map(str, files)]
            done = subprocess.run(
                [sys.executable, *FLAGS, "-c", *code],
                stdin=hears,
                capture_output=True,
                cwd="/",
                env=_environment(),
                pass_fds=files,
                start_new_session=True,
                timeout=seconds,
            )
    finally:
        os.close(hears)
        os.close(holds)
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode(errors="replace")
        raise RuntimeError(f"the sandbox's warden ended with {done.returncode}: {said}")
    return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    """Nothing of ours, but where an interpreter may find its own library, until it has started."""
    path = os.environ.get("LD_LIBRARY_PATH")
    return ENVIRONMENT if path is None else {**ENVIRONMENT, "LD_LIBRARY_PATH": path}
