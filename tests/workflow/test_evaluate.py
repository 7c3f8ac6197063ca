"""Asking again: adapters made anew, more questions, other data; and how answers are decoded."""

import json
import shlex
import shutil
from dataclasses import replace

import pytest

from lorafuse_jax import cli
from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Question,
    Score,
    Source,
    each,
)
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import evaluate as evaluate_module
from lorafuse_jax.workflow.benchmarks import pose
from lorafuse_jax.workflow.evaluate import archives_of, evaluate, rescore
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.questions import requests_of
from lorafuse_jax.workflow.report import report
from lorafuse_jax.workflow.rerun import evaluate_command
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


@pytest.fixture(scope="module")
def trained(inputs):
    model, data = inputs
    settings = {"rank": 2, "examples": 8, "examples_per_step": 4, "heldout_examples": 4}
    config = TrainConfig(model=str(model), data=str(data), seeds=(1, 2), **settings)
    return train(config, model.parent / "run")


@pytest.fixture
def run(trained, tmp_path):
    """The same seeds for every test, each in a folder of its own."""
    return RunFolder(shutil.copytree(trained.path, tmp_path / "run"))


def data_of(folder, numbers, first="n"):
    """A folder with a test split of sums."""
    folder.mkdir(parents=True)
    rows = [
        {"id": f"{first}{n}", "prompt": f"{n}+1?", "completion": f"#### {n + 1}", "answer": n + 1}
        for n in numbers
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "test.jsonl").write_text(text)
    return folder


def pretend(monkeypatch, decoding, prompt="Say"):
    """A benchmark that has questions of one prompt, decoded as is said."""
    made = Benchmark(
        name="pretended",
        version=1,
        about="",
        licence="",
        source=Source(),
        columns=("id",),
        conventions={
            "plain": Convention(about="", prompt=lambda row, shots: prompt, decoding=decoding)
        },
        pose=lambda row, convention, shots: Question(
            id=row.value["id"], where=row.where, prompt=prompt, gold="?"
        ),
        score=each(lambda question, response: Score(values={"correct": 0.0}), ("correct",)),
    )
    monkeypatch.setitem(BENCHMARKS, "pretended", made)
    return made


def test_an_adapter_made_anew_under_its_name_is_asked_anew_and_never_mixed(run, inputs):
    task = [f"{inputs[1]}/test"]
    fuse_run(run, FuseRequest(operator="mean"), run.fused_path("x"))
    evaluate(run, task, 4)
    (archive,) = archives_of(run)
    first = {id: one for (id, model), one in archive.answers().items() if model == "x"}
    shutil.rmtree(run.fused_path("x"))
    request = FuseRequest(operator="task_arithmetic", settings=("factor=40",))
    fuse_run(run, request, run.fused_path("x"))
    lines = archive.answers_path.read_text().splitlines()
    evaluate(run, task, 4)
    after = archive.answers_path.read_text().splitlines()
    assert after[: len(lines)] == lines and len(after) == len(lines) + 4
    second = {id: one for (id, model), one in archive.answers().items() if model == "x"}
    assert first.keys() == second.keys() and len(second) == 4
    assert all(second[id].weights != one.weights for id, one in first.items())
    assert any(second[id].log_probs != one.log_probs for id, one in first.items())
    # Killed after two of the four.
    archive.answers_path.write_text("".join(f"{line}\n" for line in after[:-2]))
    with pytest.raises(
        UserError, match=r"(?s)x lacks 2 of 4 examples.*lorafuse evaluate .*--tasks"
    ):
        report(run)


@pytest.mark.parametrize("same", [True, False])
def test_other_data_of_the_same_name_is_refused_before_anything_is_asked(
    run, tmp_path, monkeypatch, same
):
    first = data_of(tmp_path / "a" / "data", range(3))
    second = data_of(tmp_path / "b" / "data", range(5, 9), first="n" if same else "m")
    evaluate(run, [str(first)])
    (archive,) = archives_of(run)
    before = archive.answers_path.read_text()
    monkeypatch.setattr(evaluate_module, "answer_all", lambda *a: pytest.fail("asked"))
    with pytest.raises(UserError, match="holds answers to other questions, such as n0"):
        evaluate(run, [str(second)])
    with pytest.raises(UserError, match="are both called data/test"):
        evaluate(run, [str(first), str(second)])
    assert archive.answers_path.read_text() == before


def test_an_answer_is_cut_at_the_same_length_however_many_are_asked(inputs, tmp_path):
    data = data_of(tmp_path / "data", [1, 2, 3, 10**9])
    model = load_model(inputs[0])
    some, every = (requests_of(pose(str(data), limit), model, "qa") for limit in (2, None))
    assert some[0][0].max_new_tokens == every[0][0].max_new_tokens
    assert len(some) == 2 and every[0][0].max_new_tokens > len(every[0][0].reference)


def test_samples_end_at_stop_strings_and_differ_between_questions(run, tmp_path, monkeypatch):
    stops = ("e", "7", "(")
    pretend(monkeypatch, Decoding(40, stops, samples=3, temperature=1.5))
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a"}\n{"id": "b"}\n')
    evaluate(run, [f"pretended:{file}"])
    (archive,) = archives_of(run)
    texts = {key: one.texts for key, one in archive.answers().items()}
    assert all(len(own) == 3 for own in texts.values())
    assert len(set(texts["a", "base"] + texts["b", "base"])) == 6
    assert not any(stop in text for own in texts.values() for text in own for stop in stops)
    generated = [n for one in archive.answers().values() for n in one.generated]
    assert min(generated) < 40  # some were ended by them


def test_an_answer_ends_where_the_context_does(inputs, tmp_path, monkeypatch):
    prompt = "x" * 240
    pretend(monkeypatch, Decoding(10_000), prompt)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a"}\n')
    model = load_model(inputs[0])
    ((asked,),) = requests_of(pose(f"pretended:{file}", None), model, "qa")
    assert asked.max_new_tokens == model.config.context_length - 240
    pretend(monkeypatch, Decoding(10), "x" * model.config.context_length)
    with pytest.raises(UserError, match=r"rows.jsonl:1: example a has 256 tokens of prompt"):
        requests_of(pose(f"pretended:{file}", None), model, "qa")


def test_special_tokens_among_the_stop_strings_end_answers_as_tokens(inputs, tmp_path, monkeypatch):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a"}\n')
    pretend(monkeypatch, Decoding(4, ("<stop>", "<end>", "x")))
    model = load_model(inputs[0])
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<stop>"]})
    engine = evaluate_module._engine(pose(f"pretended:{file}", None), model)
    expected = [*model.stop_tokens, model.tokenizer.convert_tokens_to_ids("<stop>")]
    assert list(engine.stop_tokens) == expected


def test_commands_name_what_was_asked(run, inputs, tmp_path):
    copy = tmp_path / "my copy.jsonl"
    copy.write_text("".join(f'{{"question": "{n}?", "answer": "#### {n}"}}\n' for n in range(3)))
    names = [f"gsm8k@5-shot-is-not:{copy}", f"gsm8k@trained:{copy}"]
    with pytest.raises(UserError, match="has no convention"):
        evaluate(run, names[:1])
    evaluate(run, names[1:], 2, subsets=("mean",))
    evaluate(run, [], 2)
    found = {}
    for archive in archives_of(run):
        command = cli.parse(shlex.split(evaluate_command(archive, run.path))[1:])
        found[archive.asked()["label"]] = (command.tasks, command.limit, command.subsets)
    assert found == {
        "gsm8k:my copy@trained": (tuple(names[1:]), 2, ("mean",)),
        "sums/test": ((), 2, ()),
    }


def test_scores_stay_where_scoring_anew_fails(run, tmp_path, monkeypatch):
    made = pretend(monkeypatch, Decoding(4))
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a"}\n{"id": "b"}\n')
    evaluate(run, [f"pretended:{file}"])
    (archive,) = archives_of(run)
    before = archive.scores_path.read_text()

    def missing(question, response):
        raise UserError("something is not installed")

    scorer = each(missing, ("correct",))
    monkeypatch.setitem(BENCHMARKS, "pretended", replace(made, version=2, score=scorer))
    for again in (rescore, report):
        with pytest.raises(UserError, match="something is not installed"):
            again(run)
        assert archive.scores_path.read_text() == before


def test_data_are_rescored_by_another_checker(run, tmp_path):
    data = data_of(tmp_path / "data", range(3))
    evaluate(run, [str(data)])
    rescore(run, checker="contains")
    (archive,) = archives_of(run)
    assert archive.asked()["benchmark"] == "own:contains"
    assert report(run)
    with pytest.raises(UserError, match=r"test.jsonl:1: the answer '1' is no single letter"):
        rescore(run, checker="choice")
    assert archive.asked()["benchmark"] == "own:contains"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "1"], "--limit 1 is too few"),
        (["--limit", "-5"], "--limit -5 is too few"),
        (["--rescore", "--tasks", "gsm8k"], "--tasks means nothing with --rescore"),
        (["--harness", "arc_easy", "--checker", "math"], "--checker means nothing with --harness"),
        (["--fewshot", "3"], "--fewshot means nothing without --harness"),
    ],
)
def test_options_that_mean_nothing_are_refused(run, words, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lorafuse", "evaluate", str(run.path), *words])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert message in capsys.readouterr().err
