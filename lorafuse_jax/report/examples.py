"""What the models said where they disagree, as HTML."""

from collections.abc import Mapping, Sequence
from html import escape

from lorafuse_jax.evaluation.predictions import Prediction

SHOWN = 6


def disagreements(
    task: str, predictions: Sequence[Prediction], prompts: Mapping[tuple[str, str], str]
) -> str:
    """The first examples of a task that some adapters have right and others wrong.

    The base model is shown, but does not count: it disagrees with everyone.
    """
    by_id: dict[str, list[Prediction]] = {}
    for row in predictions:
        if row.task == task:
            by_id.setdefault(row.id, []).append(row)
    split = [rows for rows in by_id.values() if len({r.correct for r in _adapted(rows)}) == 2]
    shown = "".join(_example(rows, prompts) for rows in split[:SHOWN])
    such_as = ", for instance:" if split else "."
    return (
        "<h3>What they said</h3>"
        f"<p>The adapters disagree on {len(split)} of {len(by_id)} examples{such_as}</p>{shown}"
    )


def _adapted(rows: list[Prediction]) -> list[Prediction]:
    return [row for row in rows if row.kind != "base"]


def _example(rows: list[Prediction], prompts: Mapping[tuple[str, str], str]) -> str:
    first, adapted = rows[0], _adapted(rows)
    prompt = prompts.get((first.task, first.id))
    asked = f'<pre class="prompt">{escape(prompt.strip())}</pre>' if prompt is not None else ""
    return (
        f"<details><summary>{escape(first.id)}: reference {escape(first.reference)}, "
        f"{sum(row.correct for row in adapted)} of {len(adapted)} right</summary>{asked}"
        + "".join(
            f'<p class="{"right" if row.correct else "wrong"}">{escape(row.model)} '
            f'<span class="soft">{"right" if row.correct else "wrong"}, answer '
            f"{escape(row.prediction or 'none')}</span></p>"
            f"<pre>{escape(row.text.strip())}</pre>"
            for row in rows
        )
        + "</details>"
    )
