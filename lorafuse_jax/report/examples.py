"""What the models said where they disagree, as HTML."""

from collections.abc import Mapping
from html import escape

import numpy as np

from lorafuse_jax.evaluation.records import Answer
from lorafuse_jax.evaluation.scores import Scores

SHOWN = 6


def disagreements(
    scores: Scores, answers: Mapping[tuple[str, str], Answer], prompts: Mapping[str, str]
) -> str:
    """The first examples of a task that some adapters have right and others wrong.

    The base model is shown, but does not count: it disagrees with everyone. Fused models of some
    of the seeds are left out.

    Args:
        scores: of the task.
        answers: by example and model.
        prompts: by example.
    """
    adapted = scores.rows_of("seed") + scores.rows_of("fused")
    values = scores.primary[adapted]
    split = np.flatnonzero((values == values.max(axis=0)).any(axis=0) & (np.ptp(values, 0) > 0))
    shown = "".join(_example(scores, int(e), answers, prompts) for e in split[:SHOWN])
    such_as = ", for instance:" if len(split) else "."
    return (
        "<h3>What they said</h3>"
        f"<p>The adapters disagree on {len(split)} of {len(scores.ids)} examples{such_as}</p>"
        f"{shown}"
    )


def _example(
    scores: Scores,
    example: int,
    answers: Mapping[tuple[str, str], Answer],
    prompts: Mapping[str, str],
) -> str:
    id = scores.ids[example]
    adapted = scores.rows_of("seed") + scores.rows_of("fused")
    right = int((scores.primary[adapted, example] == 1).sum())
    prompt = prompts.get(id)
    asked = f'<pre class="prompt">{escape(prompt.strip())}</pre>' if prompt is not None else ""
    said = "".join(
        _said(scores, n, example, answers[id, scores.models[n]])
        for n in scores.rows_of("base") + adapted
    )
    return (
        f"<details><summary>{escape(id)}: reference {escape(scores.references[example])}, "
        f"{right} of {len(adapted)} right</summary>{asked}{said}</details>"
    )


def _said(scores: Scores, model: int, example: int, answer: Answer) -> str:
    word = "right" if scores.primary[model, example] == 1 else "wrong"
    found, fault = scores.answers[model][example], scores.faults[model][example]
    understood = f", could not be scored: {fault}" if fault else f", answer {found or 'none'}"
    texts = "".join(f"<pre>{escape(text.strip())}</pre>" for text in answer.texts)
    return (
        f'<p class="{word}">{escape(scores.models[model])} '
        f'<span class="soft">{word}{escape(understood)}</span></p>{texts}'
    )
