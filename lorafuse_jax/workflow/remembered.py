"""What takes long to find out about files, kept beside them for as long as they do not change."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorafuse_jax.run_folder import write_atomically


def remembered(
    file: Path, folders: Mapping[str, Path], find: Callable[[], Any], **settings: Any
) -> Any:
    """What ``find`` says, or said before about the same weights.

    Args:
        file: JSON, written here.
        folders: by name, whose files it is about; sizes and times of weights and configurations
            are compared.
        find: gives what JSON can hold.
        settings: what else it depends on, likewise.
    """
    state = {
        f"{name}/{path.name}": [path.stat().st_size, path.stat().st_mtime_ns]
        for name, folder in folders.items()
        for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    } | settings
    known = _read(file)
    if known is None or known["of"] != state:
        known = {"of": state, "found": find()}
        write_atomically(file, json.dumps(known) + "\n")
    return known["found"]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and known.keys() == {"of", "found"} else None
