"""Tasks of lm-eval with local data: our base model scores what lm-eval's own model class scores."""

import json
import sys

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from lorafuse_jax import cli
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import harness
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.harness import HarnessRequest, evaluate_with_harness
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model

TASKS = {
    "tiny_choice": """
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "tiny_generate": """
output_type: generate_until
doc_to_text: "{{q}} ="
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["e", "zz"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
""",
    "tiny_perplexity": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
}
DOCUMENTS = [
    {
        "q": f"{a} + {b}",
        "choices": [f" {a + b}", " many", f" {a * b} or so"],
        "label": a % 3,
        "text": f"{a} and {b} make {a + b}; " * (1 + 9 * b),
    }
    for a, b in [(1, 2), (3, 1), (4, 4), (7, 5), (2, 3)]
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    data = write_sums(folder / "sums")
    settings = {"seeds": (1, 2), "rank": 2, "examples": 8, "examples_per_step": 4}
    trained = train(
        TrainConfig(model=str(model), data=str(data), heldout_examples=4, **settings),
        folder / "run",
    )
    fuse_run(trained, FuseRequest(operator="mean"), trained.fused_path("mean"))
    return trained


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS))
    for name, text in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ntest_split: test\n"
        head += f"dataset_kwargs: {{data_files: {{test: {data}}}}}\n"
        (folder / f"{name}.yaml").write_text(head + text)
    return folder


def results_of(run, task):
    return json.loads((run.path / "harness" / f"{task}.json").read_text())["results"]


@pytest.mark.parametrize("task", TASKS)
def test_base_scores_what_the_harness_own_model_scores(run, model, tasks, task):
    evaluate_with_harness(run, HarnessRequest(tasks=(task,), include=tasks))
    ours = results_of(run, task)
    assert list(ours) == ["base", "seed-1", "seed-2", "mean"]
    manager = TaskManager(include_path=str(tasks))
    theirs = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=1),
        tasks=[task],
        task_manager=manager,
        bootstrap_iters=0,
    )
    expected = {k: v for k, v in theirs["results"][task].items() if isinstance(v, float)}
    assert expected
    found = {k: ours["base"]["metrics"][task][k] for k in expected}
    assert found == pytest.approx(expected, rel=1e-4)
    for mine, other in zip(ours["base"]["samples"][task], theirs["samples"][task], strict=True):
        pairs = zip(_flat(mine["resps"]), _flat(other["resps"]), strict=True)
        for one, theirs_one in pairs:
            text = isinstance(one, str)
            assert one == (theirs_one if text else pytest.approx(theirs_one, rel=1e-3, abs=1e-3))


def _flat(responses):
    """Numbers of nested lists, which JSON may have turned to text; texts as they are."""
    if isinstance(responses, list | tuple):
        return [one for part in responses for one in _flat(part)]
    if responses in ("True", "False", True, False):
        return [str(responses) == "True"]
    try:
        return [float(responses)]
    except ValueError:
        return [responses]


def test_a_group_gives_the_results_of_its_tasks(run, tasks, capsys):
    group = "group: tiny_group\ntask: [tiny_choice, tiny_generate]\n"
    (tasks / "tiny_group.yaml").write_text(group)
    evaluate_with_harness(run, HarnessRequest(tasks=("tiny_group",), include=tasks, limit=2))
    found = results_of(run, "tiny_group")["seed-1"]
    assert {"tiny_choice", "tiny_generate"} <= set(found["samples"])
    printed = capsys.readouterr().out
    assert "acc_norm" in printed and "exact_match" in printed


def test_a_question_that_is_repeated_is_sampled_anew(run, tasks):
    text = (tasks / "tiny_generate.yaml").read_text().replace("tiny_generate", "tiny_repeated")
    text = text.replace("do_sample: false", "do_sample: true, temperature: 2.0")
    (tasks / "tiny_repeated.yaml").write_text(text + "repeats: 3\n")
    evaluate_with_harness(run, HarnessRequest(tasks=("tiny_repeated",), include=tasks))
    samples = results_of(run, "tiny_repeated")["base"]["samples"]["tiny_repeated"]
    assert all(len(set(_flat(one["resps"]))) == 3 for one in samples)


def test_all_members_are_asked_at_once_and_only_once(run, tasks, monkeypatch, capsys):
    asked = []
    real = harness.serve

    def counted(engine, params, bank, queues, **settings):
        asked.append(len(queues))
        return real(engine, params, bank, queues, **settings)

    monkeypatch.setattr(harness, "serve", counted)
    request = HarnessRequest(tasks=("tiny_choice",), include=tasks, limit=3)
    evaluate_with_harness(run, request)
    evaluate_with_harness(run, request)
    assert asked == [4]
    assert "seed-2" in capsys.readouterr().out


def test_the_command_line_takes_tasks_of_the_harness(run, tasks, monkeypatch, capsys):
    words = ["lorafuse", "evaluate", run.path, "--harness", "tiny_generate", "--include", tasks]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    cli.main()
    assert "exact_match" in capsys.readouterr().out


def test_chat_without_a_template_is_refused(run, tasks):
    with pytest.raises(UserError, match="its tokenizer has no chat template; leave --chat out"):
        evaluate_with_harness(run, HarnessRequest(tasks=("tiny_choice",), include=tasks, chat=True))


def test_questions_are_put_into_the_tokenizers_chat_template(run, tasks, monkeypatch):
    real = harness.load_evaluated

    def with_template(run):
        model, members = real(run)
        model.tokenizer.chat_template = (
            "{% for m in messages %}<{{ m.content }}>{% endfor %}"
            "{% if add_generation_prompt %}:{% endif %}"
        )
        return model, members

    monkeypatch.setattr(harness, "load_evaluated", with_template)
    text = (tasks / "tiny_choice.yaml").read_text().replace("tiny_choice", "tiny_chat")
    (tasks / "tiny_chat.yaml").write_text(text)
    request = HarnessRequest(tasks=("tiny_chat",), include=tasks, chat=True)
    evaluate_with_harness(run, request)
    asked = results_of(run, "tiny_chat")["base"]["samples"]["tiny_chat"][0]["arguments"]
    assert all(context == "<1 + 2>:" for context, _ in asked)


def test_unknown_task_and_missing_harness_are_clear(run, monkeypatch):
    with pytest.raises(UserError, match="lm-eval has no task 'arc_esy'"):
        evaluate_with_harness(run, HarnessRequest(tasks=("arc_esy",)))
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pip install 'lorafuse-jax\[eval\]'"):
        evaluate_with_harness(RunFolder(run.path), HarnessRequest(tasks=("arc_easy",)))
