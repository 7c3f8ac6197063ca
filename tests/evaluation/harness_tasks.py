"""lm-eval's own tasks on local rows, with a model that says what the test tells it to."""

import json
from pathlib import Path
from typing import NamedTuple

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from lorafuse_jax.data.files import Row

TASKS = Path(lm_eval.__file__).parent / "tasks"


class Asked(NamedTuple):
    """What lm-eval asked, and how it scored the answers."""

    prompts: list[str]
    stops: tuple[str, ...]
    scores: list[dict[str, float]]


class Told(LM):
    """Answers the questions in order."""

    def __init__(self, texts):
        super().__init__()
        self.texts, self.asked = texts, []

    def generate_until(self, requests, disable_tqdm=False):
        self.asked = [request.args for request in requests]
        return list(self.texts)

    def loglikelihood(self, requests):
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def ask(folder: Path, task: str, splits: dict[str, list[dict]], texts: list[str], more="") -> Asked:
    """Let lm-eval ask the test rows, once for each text.

    Args:
        folder: for the rows.
        task: file of the task in lm-eval.
        splits: rows.
        texts: the answer to each test row.
        more: lines for the task file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {split: str(folder / f"{split}.jsonl") for split in splits}
    for split, rows in splits.items():
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(
        f"include: {TASKS / task}\ntask: local\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {json.dumps({'data_files': files})}\ntag: null\n{more}"
    )
    model = Told(texts)
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=["local"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    scores = [{} for _ in texts]
    for one in found["samples"]["local"]:
        values = {name: float(one[name]) for name in one["metrics"]}
        scores[one["doc_id"]] |= {f"{name},{one['filter']}": v for name, v in values.items()}
    (stops,) = {tuple(settings["until"]) for _, settings in model.asked}
    return Asked([prompt for prompt, _ in model.asked], stops, scores)


def rows_of(values: list[dict], name="t.jsonl") -> list[Row]:
    """Rows as a file gives them."""
    return [Row(value, f"{name}:{n}", n) for n, value in enumerate(values, start=1)]
