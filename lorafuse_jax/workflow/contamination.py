"""What a run's held-out splits have in common with its training data: a line, and a file."""

import json

from lorafuse_jax.data.contamination import contamination
from lorafuse_jax.data.examples import Task
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.workflow.progress import console


def report_contamination(task: Task, run: RunFolder) -> None:
    """Check every split but train against train, once a run."""
    held_out = {split: some for split, some in task.splits.items() if split != "train" and some}
    if run.contamination_path.exists() or not held_out:
        return
    train = task.splits["train"]
    found = {split: contamination(train, some) for split, some in held_out.items()}
    written = {split: one.to_dict() for split, one in found.items()}
    write_atomically(run.contamination_path, json.dumps(written, indent=2) + "\n")
    listed = "; ".join(
        f"{split} {one.overlapping} of {one.examples} ({one.n}-grams; {one.mostly} with most of "
        "theirs)"
        for split, one in found.items()
    )
    console.print(f"held-out prompts that share words in a row with training: {listed}")
