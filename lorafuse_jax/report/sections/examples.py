"""Questions, and what each model answered, side by side."""

from lorafuse_jax.evaluation.benchmark import Question
from lorafuse_jax.report.markup import Html, html_of, join, tag
from lorafuse_jax.report.sections.example_choice import KINDS, Choice
from lorafuse_jax.report.sections.result import Result

PROMPT_LENGTH, TEXT_LENGTH = 2500, 1200
"""Characters, from which on the middle or the end is left out."""
SAMPLES_SHOWN = 2


def examples(result: Result, choice: Choice, prefix: str) -> Html:
    """The chosen examples, with a filter where the page may run its few lines of script.

    Args:
        result: of the benchmark.
        choice: which are shown.
        prefix: of their ids on the page.
    """
    scores = result.scores
    adapted = sum(kind in ("seed", "fused") for kind in scores.kinds)
    split = choice.count("disagree")
    said = (
        f"The {adapted} adapters disagree on {split} of {len(scores.ids)} examples: one has it "
        "right and another wrong. "
    )
    telling = sum(number in choice.kinds for number in choice.shown)
    told = f"Shown are {len(choice.shown)}" + (
        f", of {len(choice.kinds)} on which they do or which could not be scored"
        if telling == len(choice.shown)
        else f", {telling} on which they do or which could not be scored"
    )
    told += "; all are in answers.jsonl."
    kinds = choice.kinds
    cards = (_example(result, number, kinds.get(number, []), prefix) for number in choice.shown)
    return tag("div", tag("p", said, told), _filter(choice, prefix), *cards, class_="examples")


def example_id(prefix: str, number: int) -> str:
    """Where on the page an example is."""
    return f"{prefix}-example-{number + 1}"


def _filter(choice: Choice, prefix: str) -> Html:
    """Hidden until a script shows it: without one it would do nothing."""
    options = [("", f"all {len(choice.shown)}")]
    for kind, name in KINDS.items():
        shown = sum(kind in choice.kinds.get(number, []) for number in choice.shown)
        if shown > 0:
            options.append((kind, f"{name} ({shown} of {choice.count(kind)})"))
    if len(options) == 1:
        return Html("")
    labels = []
    for number, (kind, name) in enumerate(options):
        first = "" if number == 0 else None
        name_of = f"{prefix}-filter"
        button = tag("input", type="radio", name=name_of, value=kind, checked=first)
        labels.append(tag("label", button, name))
    return tag("fieldset", tag("legend", "Show"), *labels, class_="filter", hidden="")


def _example(result: Result, number: int, kinds: list[str], prefix: str) -> Html:
    scores = result.scores
    id = scores.ids[number]
    adapted = scores.rows_of("seed") + scores.rows_of("fused")
    right = int((scores.primary[adapted, number] == 1).sum())
    words = f"reference {_short(scores.references[number], 60)}, {right} of {len(adapted)} right"
    told = "; ".join([words, *(KINDS[kind] for kind in kinds if kind != "disagree")])
    summary = tag("summary", tag("strong", id), " ", tag("span", told, class_="soft"))
    asked = _prompt(result.questions.get(id))
    # Fused models of some of the seeds are left out: there may be hundreds.
    others = scores.rows_of("ensemble") + scores.rows_of("control")
    shown = scores.rows_of("base") + adapted + others
    said = (_said(result, model, number) for model in shown)
    return tag(
        "details",
        summary,
        asked,
        tag("div", *said, class_="said"),
        id=example_id(prefix, number),
        data_kinds=" ".join(kinds),
    )


def _prompt(question: Question | None) -> Html:
    if question is None:
        return Html("")
    text = question.prompt.strip()
    if len(text) > PROMPT_LENGTH:
        # The question itself stands at the end, after the worked examples.
        left = len(text) - PROMPT_LENGTH
        text = f"[{left} characters left out]\n{text[-PROMPT_LENGTH:]}"
    return tag("pre", text, class_="prompt")


def _said(result: Result, model: int, number: int) -> Html:
    scores = result.scores
    answer = result.answers[scores.ids[number], scores.models[model]]
    value = float(scores.primary[model, number])
    word = "right" if value == 1 else "wrong" if value == 0 else f"{value:.2f} right"
    found, fault = scores.answers[model][number], scores.faults[model][number]
    if fault:
        understood = f"could not be scored: {_short(fault, 200)}"
    elif found is not None:
        understood = f"answer {_short(found, 80)}"
    else:
        understood = "no answer found" if answer.texts else ""
    verdict = join([tag("span", word, class_="word"), f" {understood}"])
    shown = answer.texts[:SAMPLES_SHOWN]
    texts = [tag("pre", _cut(text.strip()) or "(nothing)") for text in shown]
    if len(answer.texts) > len(shown):
        texts.append(tag("p", f"and {len(answer.texts) - len(shown)} more samples", class_="soft"))
    likely = _likelihoods(answer.log_probs, answer.tokens) if not answer.texts else ""
    return tag(
        "div",
        tag("h5", scores.models[model]),
        tag("p", verdict),
        *texts,
        likely,
        class_="right" if value == 1 else "wrong",
    )


def _likelihoods(log_probs: list[float], tokens: list[int]) -> Html:
    """Of each choice where nothing was generated."""
    items = [
        f"{number}: {total:.2f} nats, {total / count:.3f} a token"
        for number, (total, count) in enumerate(zip(log_probs, tokens, strict=True))
    ]
    return join([tag("p", item, class_="soft") for item in items])


def _short(text: str, length: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def _cut(text: str) -> Html:
    if len(text) <= TEXT_LENGTH:
        return html_of(text)
    return html_of(f"{text[:TEXT_LENGTH]}\n[{len(text) - TEXT_LENGTH} more characters]")
