"""The three areas from beginning to end on a tiny model: all steps, repeated, stopped, resumed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from experiments.areas import asking, fusing, training
from experiments.areas.choosing import choose
from experiments.areas.command import main, run_area
from experiments.areas.programs import kept_programs
from experiments.areas.rows import FEW_ROWS
from experiments.areas.study import Study
from experiments.shard import MORE_LEFT
from lorafuse_jax.evaluation.grouped_gain import grouped_gain
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow import answering
from tests.experiments.given import (
    SCRIPTS,
    script,
    tiny_area,
    write_choices,
    write_inputs,
    write_problems,
)


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory):
    """All studies share what is compiled."""
    with kept_programs(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def math(inputs, tmp_path_factory):
    """A finished study, and where its results are."""
    area = tiny_area("math_reasoning", inputs, {f"{inputs[1]}/test": 12})
    out = tmp_path_factory.mktemp("math") / "study"
    words = ["--scale", "tiny", "--out", str(out)]
    assert main({"laptop": area, "tiny": area}, "math_reasoning", "About.", words) == 0
    return Study(area, out)


def results_of(study):
    folder = study.out / "results"
    name = study.area.name
    examples = np.load(folder / f"{name}-examples.npz", allow_pickle=False)
    return json.loads((folder / f"{name}.json").read_text()), examples


def test_every_row_of_the_table_is_there_with_its_interval(math):
    found, _ = results_of(math)
    (test,) = found["tests"].values()
    rows = {row["name"]: row for row in test["rows"]}
    expected = {"base", "mean of seeds", "best on validation", "logit ensemble"}
    expected |= {row.name for row in FEW_ROWS} | {one.name for one in math.area.controls}
    assert expected | {"any seed right (a bound)"} == rows.keys()
    for name, row in rows.items():
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
        tested = row["kind"] in ("fused", "control", "ensemble")
        assert (row["gain"] is not None) == (row["likelihood_gain"] is not None) == tested, name
    likely = [tuple(row["log_likelihood_by_group"]) for n, row in rows.items() if "any" not in n]
    assert len(set(likely)) > len(likely) // 2
    pairs = {tuple(one["rows"]) for one in test["contrasts"]}
    assert ("scaled_mean-chosen", "full") in pairs and (
        "distribution_matching",
        "mean",
    ) not in pairs
    assert [line["seeds"] for line in next(iter(found["curve"].values()))] == [1, 2, 3]
    assert found["chosen"]["rows"].keys() == {row.name for row in FEW_ROWS if row.grid}
    assert found["costs"]["group-1"].keys() == {"train", "fuse", "evaluate"}


def test_statistics_can_be_redone_from_the_examples(math):
    found, examples = results_of(math)
    (test,) = found["tests"]
    models, kinds = examples[f"{test}/models"], examples[f"{test}/kinds"]
    for key, gain, bounded in (
        ("values", "gain", True),
        ("log_likelihood", "likelihood_gain", False),
    ):
        table = examples[f"{test}/{key}"].astype(float)
        seeds = [own[kind == "seed"] for own, kind in zip(table, kinds, strict=True)]
        for row in found["tests"][test]["rows"]:
            if row[gain] is None:
                continue
            own = table[models == row["name"]]
            redone = grouped_gain(own, seeds, bounded=bounded)
            assert redone.by_group == pytest.approx(row[gain]["by_group"], abs=1e-5)
            assert redone.p_value == pytest.approx(row[gain]["p_value"], abs=1e-3)
    assert f"curve/{test}/values" in examples and "subset" in examples[f"curve/{test}/kinds"]


def test_settings_with_the_lowest_validation_loss_are_fused(math):
    chosen = json.loads(math.chosen_path.read_text())
    for row in math.area.rows:
        if row.grid:
            own = chosen["rows"][row.name]
            assert len(own["tried"]) == len(list(row.points()))
            assert own["loss"] == min(one["loss"] for one in own["tried"])
            for run in math.groups:
                path = run.fused_path(row.name) / "adapter_config.json"
                provenance = json.loads(path.read_text())["auto_mapping"]
                text = json.dumps(provenance)
                for name, value in own["settings"].items():
                    assert value == "best member" or f'"{name}": {json.dumps(value)}' in text
    rates = json.loads(math.rates_path.read_text())
    for one in (rates["single"], rates["full"]):
        assert one["losses"][f"{one['rate']:g}"] == min(one["losses"].values())
        assert len(set(one["losses"].values())) == 2


def test_what_is_finished_is_not_done_again(math, monkeypatch):
    for module, name in ((training, "train"), (fusing, "fuse"), (asking, "evaluate")):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("again"))
    before = {path: path.stat().st_mtime_ns for path in math.out.rglob("*") if path.is_file()}
    assert run_area(math, math.out / "results", "again") == 0
    after = {path: path.stat().st_mtime_ns for path in math.out.rglob("*") if path.is_file()}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed <= {".lock"}


def test_base_is_asked_once_for_all_groups(math):
    def counted(run):
        lines = [line for line in run.costs() if line["verb"] == "evaluate"]
        return sum(line["counts"]["answers"] for line in lines)

    first, second = map(counted, math.groups)
    assert first - second == 12


@pytest.fixture
def copy(math, tmp_path):
    return Study(math.area, shutil.copytree(math.out, tmp_path / "study"))


def test_no_test_is_opened_before_everything_is_chosen(copy):
    test = next(iter(copy.area.tests))
    copy.opened_path.unlink()
    kept = copy.chosen_path.read_text()
    copy.chosen_path.unlink()
    for ask in (lambda: asking.ask_group(copy, 0, test), lambda: asking.ask_curve(copy, test)):
        with pytest.raises(UserError, match="chosen on validation before a test is opened"):
            ask()
    assert not copy.opened_path.exists()
    copy.chosen_path.write_text(kept)
    asking.ask_group(copy, 0, test)
    copy.chosen_path.write_text(kept + "\n")
    with pytest.raises(UserError, match="is not what it was when the first test was opened"):
        asking.ask_group(copy, 0, test)


def test_nothing_is_chosen_otherwise_once_a_test_is_open(copy):
    rows = tuple(row for row in copy.area.rows if row.name != "pome")
    other = Study(replace(copy.area, rows=rows), copy.out)
    before = copy.chosen_path.read_text()
    with pytest.raises(UserError, match="what was chosen stays"):
        choose(other)
    assert copy.chosen_path.read_text() == before


def test_code_is_stopped_in_its_answers_and_goes_on_to_the_same(inputs, tmp_path, monkeypatch):
    problems = write_problems(tmp_path / "problems.jsonl", 2)
    tests = {f"{inputs[1]}/test": 4, f"humaneval:{problems}": None}
    rows = tuple(row for row in FEW_ROWS if row.name in ("mean", "seedlora"))
    area = tiny_area("code_generation", inputs, tests, rows=rows, controls=(), curve=None)
    area = replace(area, learning_rates=(1e-2,))
    study, results = Study(area, tmp_path / "study"), tmp_path / "results"
    assert run_area(study, results, "c", hours=-1) > 0 and not study.groups[0].path.exists()
    real, written = answering.append, []

    def killed(path, lines):
        written.append(path)
        if len(written) == 7:
            raise KeyboardInterrupt
        real(path, lines)

    monkeypatch.setattr(answering, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        run_area(study, results, "c")
    answers = study.groups[0].evaluations_path / "sums-test" / "answers.jsonl"
    kept = answers.read_text()
    assert len(kept.splitlines()) == 6
    monkeypatch.setattr(answering, "append", real)
    assert run_area(study, results, "c") == 0
    assert answers.read_text().startswith(kept)
    found = json.loads((results / "code_generation-tiny.json").read_text())
    assert [one["metric"] for one in found["tests"].values()] == ["correct", "pass@1"]


def test_instructions_follow_by_choices_with_controls_of_every_seed(inputs, tmp_path):
    choices = write_choices(tmp_path / "choices.jsonl", 4)
    dora = script("instruction_following").CONFIG["paper"].controls[4]
    assert dora.changes == {"method": "dora"} and dora.seeds == "all"
    rows = tuple(row for row in FEW_ROWS if row.name == "mean")
    controls = (replace(dora, learning_rates=()),)
    more = {"rows": rows, "controls": controls, "curve": None, "choose_on": "first"}
    more |= {"learning_rates": (1e-2,)}
    area = tiny_area("instruction_following", inputs, {f"boolq:{choices}": None}, **more)
    study, results = Study(area, tmp_path / "study"), tmp_path / "results"
    assert run_area(study, results, "c") == 0
    found = json.loads((results / "instruction_following-tiny.json").read_text())
    (test,) = found["tests"].values()
    (row,) = [row for row in test["rows"] if row["kind"] == "control"]
    assert row["name"] == "dora"
    examples = np.load(results / "instruction_following-tiny-examples.npz", allow_pickle=False)
    key = f"boolq:{choices}"
    for group, by_group in enumerate(row["by_group"]):
        of = np.char.startswith(examples[f"{key}/models"][group], "dora-")
        assert of.sum() == 2
        mean = examples[f"{key}/values"][group][of].mean()
        assert by_group == pytest.approx(mean)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_its_scales(name):
    config = script(name).CONFIG
    assert config.keys() == {"paper", "paper-mistral", "laptop", "smoke"}
    assert len({area.name for area in config.values()}) == len(config)
    assert config["laptop"].name == name
    assert config["laptop"].single.model == "smollm2-135m-instruct"
    assert config["paper"].groups[0] == (11, 42, 202)


def test_command_says_what_is_wrong_and_what_is_left(inputs, tmp_path, capsys):
    area = tiny_area("math_reasoning", inputs, {"no-such-test": None}, rows=(), curve=None)
    (tmp_path / "out").mkdir()
    words = ["--out", str(tmp_path / "out"), "--hours", "-1"]
    assert main({"laptop": area}, "math_reasoning", "About.", words) == MORE_LEFT
    (tmp_path / "out" / "done.json").write_text("{")
    assert main({"laptop": area}, "math_reasoning", "About.", words) == 2
    assert "is damaged" in capsys.readouterr().err
