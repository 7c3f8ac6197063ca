"""Examples of the data that a run was trained on, as it saw them."""

from lorafuse_jax.data.encode import Encoded, encode_split
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.inputs import fingerprint_of, load_any_task


def examples_of_run(run: RunFolder, model: Model, split: str, count: int) -> list[Encoded]:
    """The first ``count`` examples of a split, as token ids under the run's template.

    Those of ``validation`` begin with the ones of the run's own held-out loss.

    Args:
        run: a trained one.
        model: its base.
        split: ``train`` or ``validation``.
        count: at most.

    Raises:
        UserError: the data are not what they were.
    """
    config = run.config()
    task = load_any_task(config["data"])
    both = task.splits.get("train", []) + task.splits.get("validation", [])
    if fingerprint_of(both) != config["data_fingerprint"]:
        raise UserError(f"{run.path} was trained on other data than {config['data']} now has")
    context = model.config.context_length
    return encode_split(
        task.splits[split],
        model.tokenizer,
        config["template"],
        max_length=min(config["max_length"] or context, context),
        overlong=config["overlong"],
    ).examples[:count]
