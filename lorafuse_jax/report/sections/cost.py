"""What the run took: time, tokens and memory, for what was measured."""

from collections.abc import Mapping, Sequence

from lorafuse_jax.report.markup import Html, Row, join, paragraphs, table
from lorafuse_jax.report.sections.result import Result

VERBS = {"train": "training", "fuse": "fusing", "evaluate": "answering"}


def cost(metrics: list[dict], costs: list[dict], results: Sequence[Result]) -> Html:
    """Sentences on training, a table of commands, and what each model generated.

    Args:
        metrics: lines of ``metrics.jsonl``.
        costs: lines of ``cost.jsonl``.
        results: one a benchmark.
    """
    said = [_training(metrics)]
    if not costs:
        said.append("Seconds and memory of the commands were not recorded.")
    return join([paragraphs(filter(None, said)), _commands(costs), _generated(results)])


def _training(metrics: list[dict]) -> str:
    """Of the steps alone: without loading, compilation, evaluations and checkpoints."""
    steps = {line["step"]: line for line in metrics if "tokens_per_s" in line}
    timed = [line for line in steps.values() if "tokens" in line]
    if not steps:
        return ""
    if not timed:
        rates = sorted(line["tokens_per_s"] for line in steps.values())
        return (
            f"{len(steps)} training steps at {_number(rates[len(rates) // 2])} tokens/s (median)."
        )
    tokens = sum(line["tokens"] for line in timed)
    # The first step of a process compiles; what it took says nothing of the others.
    steady = timed[1:] or timed
    seconds = sum(line["tokens"] / line["tokens_per_s"] for line in steady)
    rate = sum(line["tokens"] for line in steady) / seconds
    share = sum(line["peak_share"] for line in steady) / len(steady)
    return (
        f"{len(steps)} training steps of {_number(tokens)} tokens in total over all seeds, at "
        f"{_number(rate)} tokens/s after the first step, which compiles: {share:.0%} of the "
        "machine's matrix peak is needed work."
    )


def _commands(costs: list[dict]) -> Html:
    if not costs:
        return Html("")
    rows = []
    for line in costs:
        counts = line["counts"]
        done = ", ".join(f"{_number(count)} {name}" for name, count in counts.items() if count)
        rate = counts["tokens"] / line["seconds"] if counts.get("tokens") else None
        rows.append(
            Row(
                [
                    f"{VERBS.get(line['verb'], line['verb'])} {line['about']}",
                    done,
                    duration(line["seconds"]),
                    "" if rate is None else _number(rate),
                    size(line["peak_bytes"]),
                    size(line["device_peak_bytes"]) if line["device_peak_bytes"] else "",
                ]
            )
        )
    machines = list(dict.fromkeys(_machine(line["machine"]) for line in costs))
    return table(
        "What each command took",
        ["command", "done", "time", "tokens/s", "peak memory", "of the device"],
        rows,
        note="Time on the wall, with compilation and without loading the model. Memory is the most "
        f"that the process held. On {'; and on '.join(machines)}.",
    )


def _generated(results: Sequence[Result]) -> Html:
    """Tokens of the answers: a model that rambles costs more."""
    told = [result for result in results if any(one.generated for one in result.answers.values())]
    if not told:
        return Html("")
    models = list(
        dict.fromkeys(model for result in told for model in result.scores.without_subsets().models)
    )
    sums = [_tokens_by_model(result) for result in told]
    rows = [Row([model, *(_mean(own.get(model)) for own in sums)]) for model in models]
    return table(
        "Tokens generated per answer, mean",
        ["model", *(result.summary.task for result in told)],
        rows,
    )


def _tokens_by_model(result: Result) -> Mapping[str, list[int]]:
    sums: dict[str, list[int]] = {}
    asked = set(result.scores.ids)
    for (id, model), answer in result.answers.items():
        if id in asked:
            sums.setdefault(model, []).append(sum(answer.generated))
    return sums


def _mean(counts: list[int] | None) -> str:
    return "" if not counts else f"{sum(counts) / len(counts):.1f}"


def duration(seconds: float | int) -> str:
    """``8.2 s``, ``3:05 min``, ``2:01 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def size(count: float | int) -> str:
    """Bytes with a unit."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _number(value: float | int) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _machine(own: Mapping[str, str]) -> str:
    return (
        f"{own['device']}, {own['cores']} cores, {own['system']}, Python {own['python']}, "
        f"jax {own['jax']}"
    )
