"""``lorafuse`` and ``python -m lorafuse_jax``: the command line, or what keeps it from starting."""

import sys
from importlib import import_module

from lorafuse_jax.doctor.finding import Finding
from lorafuse_jax.doctor.packages import findings


def main() -> None:
    """Run one command; where the packages do not even load, say which one is to blame."""
    try:
        command_line = import_module("lorafuse_jax.cli")
    except Exception as error:
        blamed = [found for found in findings() if found.level != "slow"]
        if not blamed:
            raise
        print(_cannot_start(error, blamed), file=sys.stderr)
        sys.exit(1)
    command_line.main()


def _cannot_start(error: Exception, blamed: list[Finding]) -> str:
    lines = [f"error: lorafuse does not start: {type(error).__name__}: {error}"]
    for found in blamed:
        lines += [f"{found.level}: {found.what}", f"  do: {found.do}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
