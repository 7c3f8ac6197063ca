"""``lorafuse report``: what a run leaves, told again; commands that make the run anew."""

import html
import json
import shlex
import shutil
import sys

import jax
import numpy as np
import pytest

from lorafuse_jax import cli
from lorafuse_jax.formats import read_provenance
from lorafuse_jax.formats.dense import save_dense
from lorafuse_jax.fusion.diagnostics import diagnose
from lorafuse_jax.report.table import format_p
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import DenseDelta, UserError
from lorafuse_jax.workflow import layer_diagnostics as diagnostics_module
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.evaluate import archives_of, evaluate
from lorafuse_jax.workflow.fuse import FuseRequest, fuse_run
from lorafuse_jax.workflow.layer_diagnostics import layer_diagnostics
from lorafuse_jax.workflow.members import members_of_run
from lorafuse_jax.workflow.remembered import remembered
from lorafuse_jax.workflow.report import report, report_groups
from lorafuse_jax.workflow.rerun import fuse_command, rerun_of, train_command
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_command import Train
from lorafuse_jax.workflow.train_config import TrainConfig
from tests.tiny import write_sums, write_tiny_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return write_tiny_model(folder / "model"), write_sums(folder / "sums")


def trained(inputs, out, **changes):
    model, data = inputs
    settings = {"model": str(model), "data": str(data), "seeds": (1, 2)}
    settings |= {"examples": 8, "examples_per_step": 4, "heldout_examples": 4}
    return train(TrainConfig(**(settings | changes)), out)


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    made = trained(inputs, tmp_path_factory.mktemp("runs") / "a run", rank=(2, 4), dropout=0.1)
    fuse_run(made, FuseRequest(operator="mean"), made.fused_path("mean"))
    settings = ("quantile=0.8",)
    request = FuseRequest(operator="seedlora", settings=settings, weights=(1.0, 3.0))
    fuse_run(made, request, made.fused_path("mine"))
    evaluate(made, [f"{inputs[1]}/test"], 3)
    return made


def parsed(command):
    """What the command line makes of it."""
    words = shlex.split(command)
    assert words[0] == "lorafuse"
    return cli.parse(words[1:])


def test_commands_make_the_run_anew(run, inputs):
    train_line, *fuse_lines, evaluate_line, report_line = rerun_of(run, archives_of(run)).commands
    again = parsed(train_line)
    assert isinstance(again, Train) and again.out == run.path
    settings = {k: v for k, v in vars(again).items() if k not in ("out", "log", "mesh", "hosts")}
    kept = {k: tuple(v) if isinstance(v, list) else v for k, v in run.config().items()}
    # The template is said as it was found in the data.
    assert {k: kept[k] for k in settings} == settings
    mean, mine = map(parsed, fuse_lines)
    assert (mean.operator, mean.set, mean.out) == ("mean", (), None)
    assert (mine.operator, mine.set, mine.weights) == ("seedlora", ("quantile=0.8",), (1.0, 3.0))
    assert mine.out == run.fused_path("mine")
    asked = parsed(evaluate_line)
    assert (asked.run_folder, asked.tasks, asked.limit) == (run.path, (f"{inputs[1]}/test",), 3)
    assert parsed(report_line).run_folders == (run.path,)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rslora": True}, "--rslora --"),
        ({"shared": ["init", "order"]}, "--shared init order"),
        ({"learning_rate": [0.1, 0.2]}, "--learning-rate 0.1 0.2"),
    ],
)
def test_train_command_says_what_differs_from_the_defaults(run, changed, words):
    assert words in train_command(run.config() | changed, run.path)


def test_what_no_command_made_is_said_instead(run):
    provenance = read_provenance(run.fused_path("mean"))
    assert fuse_command(provenance | {"operator": "mean of the last 2"}, "x", run.path).startswith(
        "# fused/x was not made"
    )


def test_report_says_if_a_fused_adapter_is_of_other_seeds(run):
    found = rerun_of(run, archives_of(run))
    assert found.notes == [] and set(found.hashes) == {"seed-1", "seed-2", "mean", "mine"}
    members = read_provenance(run.fused_path("mean"))["members"]
    assert [found.hashes[one["name"]] for one in members] == [one["sha256"] for one in members]
    kept = json.loads((run.path / "hashes.json").read_text())
    kept["found"]["seed-2"] = "0" * 64
    (run.path / "hashes.json").write_text(json.dumps(kept))
    notes = rerun_of(run, archives_of(run)).notes
    (run.path / "hashes.json").unlink()
    assert notes == [
        f"{name} was fused from another seed-2 than the one that is here now."
        for name in ("mean", "mine")
    ]


def test_layer_diagnostics_are_those_of_inspect(run, monkeypatch):
    (run.path / "diagnostics.json").unlink(missing_ok=True)
    monkeypatch.setattr(diagnostics_module, "ROWS", 10**6)  # all rows: exact shares
    found = layer_diagnostics(run)
    stacked = members_of_run(run).stacked
    assert found.modules.keys() == stacked.keys()
    squares = 0
    for module, pair in stacked.items():
        exact = jax.device_get(jax.jit(diagnose)(pair))
        own = found.modules[module]
        np.testing.assert_allclose(own.cosine, exact.cosines[:, 0, 1], atol=1e-5)
        np.testing.assert_allclose(own.same_sign, exact.sign_agreement, atol=1e-3)
        np.testing.assert_allclose(own.robust, exact.robust, atol=2e-2)
        np.testing.assert_allclose(own.conflicting, exact.conflicting, atol=2e-2)
        squares = squares + np.asarray(exact.norms) ** 2
    np.testing.assert_allclose(np.array(list(found.norms.values())).T, squares**0.5, rtol=1e-4)
    deltas = {m: np.einsum("slir,slro->slio", *p).mean(0) for m, p in stacked.items()}
    mean = np.sqrt(sum((delta**2).sum((1, 2)) for delta in deltas.values()))
    np.testing.assert_allclose(found.fused["mean"], mean, rtol=1e-4)
    (run.path / "diagnostics.json").unlink()


def test_layer_diagnostics_are_measured_once_and_again_after_a_change(run, monkeypatch):
    first = layer_diagnostics(run)
    monkeypatch.setattr(diagnostics_module, "_measure", lambda *a: pytest.fail("measured again"))
    assert layer_diagnostics(run) == first
    seeds = {"seed-1": run.adapter_path(1)}
    with pytest.raises(AssertionError, match="found anew"):
        remembered(run.path / "diagnostics.json", seeds, _anew)


def _anew():
    raise AssertionError("found anew")


def stub(folder, seeds, write):
    """A run of which only the adapters' folders are there."""
    made = RunFolder(folder)
    folder.mkdir()
    made.config_path.write_text(json.dumps({"seeds": seeds}))
    for seed in seeds:
        made.adapter_path(seed).mkdir(parents=True)
        write(made.adapter_path(seed))
    return made


@pytest.mark.parametrize(
    ("seeds", "file", "content", "words"),
    [
        ([1], "adapter_config.json", {}, "one seed"),
        ([1, 2], "config.json", {}, "whole models"),
        ([1, 2], "adapter_config.json", {"use_dora": True}, "DoRA"),
        ([1, 2], "adapter_config.json", {"peft_type": "IA3"}, "cannot be compared"),
    ],
)
def test_adapters_that_cannot_be_compared_get_a_sentence(tmp_path, seeds, file, content, words):
    def write(folder):
        (folder / file).write_text(json.dumps(content))

    assert words in layer_diagnostics(stub(tmp_path / "run", seeds, write))


def test_dense_updates_are_compared_matrix_by_matrix(tmp_path):
    rng = np.random.default_rng(int.from_bytes(tmp_path.name.encode()[-4:]))
    deltas = iter(rng.normal(size=(2, 3, 10, 6)).astype(np.float32))
    written = []

    def write(folder):
        written.append(next(deltas))
        folder.rmdir()
        adapter = {"layers/mlp/up_proj": DenseDelta(jax.numpy.array(written[-1]))}
        save_dense(folder, adapter, base_model="m", provenance={})

    found = layer_diagnostics(stub(tmp_path / "run", [1, 2], write))
    a, b = (delta.reshape(3, -1) for delta in written)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    own = found.modules["layers/mlp/up_proj"]
    np.testing.assert_allclose(own.cosine, (a * b).sum(1) / lengths[0] / lengths[1], rtol=1e-4)
    np.testing.assert_allclose(own.same_sign, (np.sign(a) == np.sign(b)).mean(1), rtol=1e-6)
    np.testing.assert_allclose(list(found.norms.values()), lengths, rtol=1e-5)


def test_cost_has_a_line_for_all_that_was_done_and_none_for_nothing(run):
    lines = run.costs()
    assert [(line["verb"], line["about"]) for line in lines] == [
        ("train", "2 seeds"),
        ("fuse", "mean"),
        ("fuse", "mine"),
        ("evaluate", "sums/test"),
    ]
    steps, *_, asked = lines
    assert steps["counts"] == {"steps": 2} and asked["counts"]["answers"] == 5 * 3
    written = [one for archive in archives_of(run) for one in archive.answers().values()]
    assert asked["counts"]["tokens"] == sum(sum(one.generated) for one in written)
    assert all(line["seconds"] > 0 and line["peak_bytes"] > 1 << 20 for line in lines)
    fuse_run(run, FuseRequest(operator="mean"), run.fused_path("mean"))
    evaluate(run, [f"{run.config()['data']}/test"], 3)
    assert run.costs() == lines


def test_work_that_was_stopped_has_its_cost(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt), spending(folder, "evaluate", "t") as counts:
        counts["answers"] += 3
        raise KeyboardInterrupt
    (line,) = folder.costs()
    assert line["counts"] == {"answers": 3} and line["machine"]["jax"] == jax.__version__


def test_training_metrics_have_the_tokens_of_each_step(run):
    tokens = [line["tokens"] for line in run.metrics() if "tokens" in line]
    assert len(tokens) == 4 and min(tokens) > 0


def test_report_shows_the_landscape_where_it_was_measured(run):
    report(run)
    assert "The loss among the seeds" not in (run.path / "report.html").read_text()
    estimate = {"value": 0.1, "error": 0.01}
    found = {"seeds": [1, 2], "examples": 4, "lines": [], "triangle": [], "corners": []}
    found |= {"sizes": {}, "notes": [], "fusion": estimate, "scaled_fusion": estimate}
    (run.path / "landscape").mkdir()
    (run.path / "landscape" / "landscape.json").write_text(json.dumps(found))
    report(run)
    assert "is 0.1000 ± 0.0100 below" in (run.path / "report.html").read_text()


def renamed(run, out, names):
    """The same run under other seeds, as if those had been trained."""
    shutil.copytree(run.path, out)
    other = RunFolder(out)
    for old, new in names.items():
        other.adapter_path(old).rename(other.adapter_path(new))
    other.config_path.write_text(json.dumps(other.config() | {"seeds": list(names.values())}))
    lines = [line | {"seed": names[line["seed"]]} for line in other.metrics() if "seed" in line]
    other.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for file in other.evaluations_path.glob("*/*.jsonl"):
        text = file.read_text()
        for old, new in names.items():
            text = text.replace(f'"seed-{old}"', f'"seed-{new}"')
        file.write_text(text)
    return other


def test_a_fused_adapter_that_is_gone_is_left_out_and_said(run, inputs, tmp_path, capsys):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.fused_path("mine"))
    evaluate(copy, [f"{inputs[1]}/test"], 4)
    (summary,) = report(copy)
    assert "mine" not in {row.name for row in summary.rows} and summary.examples == 4
    assert "left out, being no longer in" in capsys.readouterr().out


def test_one_question_is_refused_before_anything_is_asked(run, inputs):
    before = archives_of(run)[0].answers_path.read_text()
    with pytest.raises(UserError, match="--limit 1 is too few for statistics"):
        evaluate(run, [f"{inputs[1]}/test"], 1)
    assert archives_of(run)[0].answers_path.read_text() == before


def test_several_runs_are_reported_together(run, tmp_path, monkeypatch):
    other = renamed(run, tmp_path / "b", {1: 3, 2: 4})
    shutil.rmtree(other.fused_path("mine"))
    (answers,) = other.evaluations_path.glob("*/answers.jsonl")
    kept = [line for line in answers.read_text().splitlines() if '"mine"' not in line]
    answers.write_text("".join(f"{line}\n" for line in kept))
    monkeypatch.setattr(sys, "argv", ["lorafuse", "report", str(run.path), str(other.path)])
    cli.main()
    page = (run.path / "groups.html").read_text()
    for gain in (row.gain for row in report_groups([run, other])[0].rows if row.gain):
        flips, student = (f"p {format_p(p)}" for p in (gain.sign_flip_p, gain.student_p))
        assert f"sign flips {flips}, Student's t {student};" in html.unescape(page)
    assert "Over 2 groups of seeds" in page and "mine is not compared: there is none in b" in page
    table = (run.path / "groups.md").read_text()
    assert "## sums/test" in table and "| mean of seeds |" in table
    assert (other.path / "report.html").exists()


def test_runs_that_cannot_be_compared_are_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(UserError, match="is named twice"):
        report_groups([run, run])
    other = renamed(run, tmp_path / "b", {1: 3, 2: 4})
    (folder,) = other.evaluations_path.iterdir()
    asked = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(asked | {"label": "else/test"}))
    (other.path / "report.html").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"no benchmark in common.*b: else/test"):
        report_groups([run, other])
    assert not (other.path / "report.html").exists()


def test_report_without_a_run_says_how(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lorafuse", "report"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "no run is named" in capsys.readouterr().err
