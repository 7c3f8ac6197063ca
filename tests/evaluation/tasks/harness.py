"""Task files of lm-eval, read without what runs them: they import metrics that need a network."""

from pathlib import Path
from typing import Any

import jinja2
import lm_eval.tasks
import yaml

FOLDER = Path(lm_eval.tasks.__file__).parent


class Loader(yaml.SafeLoader):
    """Leaves ``!function`` tags as their names."""


Loader.add_constructor("!function", lambda loader, node: node.value)


def settings_of(name: str) -> dict[str, Any]:
    """A task file, with what it includes."""
    file = FOLDER / name
    own = yaml.load(file.read_text(), Loader)
    if "include" in own:
        own = settings_of(str(Path(name).parent / own["include"])) | own
    return own


def rendered(template: str, row: dict[str, Any]) -> str:
    """As ``lm_eval.utils.apply_template`` does."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template).render(**row)
