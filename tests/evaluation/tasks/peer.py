"""lm-eval's own tasks on rows of ours: its prompts, its choices, its scores."""

import json
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

from lorafuse_jax.data.files import read_rows

FOLDER = Path(lm_eval.__file__).parent / "tasks"


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path):
    return list(read_rows(path))


def task_of(folder, file, splits):
    """A task file of lm-eval's, whose data are local files by split."""
    described = folder / "peer.yaml"
    data = ", ".join(f"{split}: {path}" for split, path in splits.items())
    described.write_text(
        f"include: {FOLDER / file}\ntask: peer\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {{data_files: {{{data}}}}}\n"
    )
    return TaskManager(include_defaults=False).load([str(described)])["tasks"]["peer"]


def asked(task, shots=0):
    """(document, [(prompt, continuation), or (text,)]) of every document that is evaluated."""
    found = []
    for number, document in enumerate(task.eval_docs):
        context = task.fewshot_context(document, shots)
        made = task.construct_requests(
            document, context, metadata=("peer", number, 1), apply_chat_template=False
        )
        made = made if isinstance(made, list) else [made]
        found.append((document, [one.args for one in made]))
    return found
