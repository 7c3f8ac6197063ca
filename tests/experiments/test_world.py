"""The controlled world: its language, its marks, its order of steps, and its statistics."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from experiments.controlled_world import Study, main
from experiments.shard import MORE_LEFT, MoreLeft, Shard
from experiments.world import config, rows, stages
from experiments.world.answers import Marks, make_asker, mark, questions_of, written
from experiments.world.decoder import tokenizer, write_untrained
from experiments.world.judged import judged_contrasts, judged_rows, moved, overlap
from experiments.world.language import CHANGES, TASKS, Problem, change, draw, skill, story
from experiments.world.record import read_marks, write_marks
from experiments.world.tables import world_page
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.types import UserError
from tests.tiny import random_adapter

FEW = ("mean", "mean, scale chosen", "version 1", "dare")


def _number(words: list[str]) -> int:
    return int("".join(words))


def _followed(problem: Problem) -> str:
    """What is asked, by following the words of the prompt."""
    if ":" in problem.prompt:
        names, digits = (part.split() for part in problem.prompt.split(":"))
        now = list(map(int, digits))
        for name in names:
            now = CHANGES[name](now)
        return " ".join(map(str, now))
    words = [sentence.split() for sentence in problem.prompt.split(".")]
    numbers = [_number([w for w in own if w.isdigit()]) for own in words[:2]]
    known, moved = numbers if " has " in problem.prompt.split(".")[0] else numbers[::-1]
    loses = any(word in ("loses", "sells", "eats", "drops") for own in words for word in own)
    backwards = words[1][0] == "then"
    return " ".join(str(known + (-1 if loses != backwards else 1) * moved))


@pytest.mark.parametrize("make", [story, change, *TASKS.values()])
def test_completions_are_what_the_prompts_ask(make):
    rng = np.random.default_rng(1)
    for unseen in (False, True):
        draw_one = make if make in (story, change) else partial(make, unseen=unseen)
        for problem in draw(draw_one, rng, 50):
            assert problem.completion == _followed(problem)


def test_unseen_problems_are_of_no_trained_kind():
    rng = np.random.default_rng(2)
    kinds = {
        unseen: {one.prompt.split(" :")[0] for one in _some("programs", unseen, rng)}
        for unseen in (False, True)
    }
    assert len(kinds[False]) == 20 and len(kinds[True]) == 5 and not kinds[False] & kinds[True]
    verbs = [
        {one.prompt.split()[1] for one in _some("stories", kind, rng)} for kind in (False, True)
    ]
    assert len(verbs[0]) == 6 and len(verbs[1]) == 2 and not verbs[0] & verbs[1]


def _some(task: str, unseen: bool, rng: np.random.Generator) -> list[Problem]:
    return draw(lambda rng: TASKS[task](rng, unseen), rng, 300)


def test_every_word_is_a_token_of_its_own():
    rng = np.random.default_rng(0)
    words = tokenizer()
    for problem in draw(skill, rng, 50):
        text = f"{problem.prompt} is {problem.completion}"
        ids = words(text)["input_ids"]
        assert words.unk_token_id not in ids and len(ids) == len(text.split())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_untrained(tmp_path_factory.mktemp("world") / "model", seed=3))


def _asked(model, count, seed=0):
    rng = np.random.default_rng(seed)
    size = model.config.vocab_size
    draws = [
        (rng.integers(1, size, 3 + number % 4), rng.integers(1, size, 2 + number % 3))
        for number in range(count)
    ]
    return [
        Encoded.from_answer(str(number), prompt, np.append(answer, 0))
        for number, (prompt, answer) in enumerate(draws)
    ]


def test_right_is_what_greedy_decoding_writes(model):
    """Questions whose answers are what the model writes are right, all others wrong."""
    adapter = random_adapter(model.params, seed=1, size=1.0)
    asked = _asked(model, 12)
    (texts,) = written(model, [adapter], questions_of(asked))
    answers = [list(map(int, text.split())) for text in texts]
    ended = [number for number, own in enumerate(answers) if len(own) < 5]
    own = [
        Encoded.from_answer(one.id, one.prompt, np.array(answers[n] + [0] * (n in ended)))
        for n, one in enumerate(asked)
    ]
    ask = make_asker(model)
    marks = mark(ask(adapter, questions_of(own)), questions_of(own))
    assert marks.right.all()
    assert not mark(ask(adapter, questions_of(asked)), questions_of(asked)).right.all()


def test_likelihood_is_that_of_each_answer_alone(model):
    adapter, asked = random_adapter(model.params, seed=2, size=1.0), _asked(model, 5, seed=4)
    ask = make_asker(model)
    together = mark(ask(adapter, questions_of(asked)), questions_of(asked)).log_likelihood
    for number, one in enumerate(asked):
        alone = questions_of([one])
        assert mark(ask(adapter, alone), alone).log_likelihood == pytest.approx(
            together[number], abs=1e-5
        )


def test_marks_come_back(tmp_path):
    rng = np.random.default_rng(0)
    table = {
        name: [Marks(rng.random(7) < 0.5, rng.normal(size=7)) for _ in range(3)]
        for name in ("seed 1", "mean")
    }
    write_marks(tmp_path / "some.npz", table)
    back = read_marks(tmp_path / "some.npz")
    for name, groups in table.items():
        for one, other in zip(groups, back[name], strict=True):
            assert (one.right == other.right).all()
            assert np.allclose(one.log_likelihood, other.log_likelihood, rtol=1e-3)


def _table(gain: float, groups: int = 12, problems: int = 300) -> dict[str, list[Marks]]:
    rng = np.random.default_rng(5)
    hard = rng.random(problems)
    draw_marks = lambda share: [  # noqa: E731
        Marks(rng.random(problems) < np.clip(share + 0.3 - 0.6 * hard, 0, 1), np.zeros(problems))
        for _ in range(groups)
    ]
    seeds = {f"seed {number}": draw_marks(0.5) for number in (1, 2, 3)}
    return seeds | {"version 2": draw_marks(0.5 + gain), "mean": draw_marks(0.5)}


def test_a_gain_is_found_and_none_is_not():
    found = {one.name: one for one in judged_rows(_table(0.15))}
    assert found["version 2"].finding == "better" and found["mean"].finding != "better"
    (contrast,) = judged_contrasts(_table(0.15), [("version 2", "mean")])
    assert contrast.finding == "better" and contrast.gain.value == pytest.approx(0.15, abs=0.04)
    (contrast,) = judged_contrasts(_table(-0.15), [("version 2", "mean")])
    assert contrast.finding == "worse"


def test_overlap_counts():
    right = lambda *bits: [Marks(np.array(bits, bool), np.zeros(4))]  # noqa: E731
    table = {
        "seed 1": right(1, 1, 0, 0),
        "seed 2": right(1, 0, 1, 0),
        "version 2": right(0, 1, 1, 1),
    }
    one = overlap(table)
    assert (one.seed, one.all_right, one.any_right, one.any_by_chance) == (0.5, 0.25, 0.75, 0.75)
    assert one.agree == 0.5
    assert moved(table, "version 2") == (0.25, 0.25)


def test_a_shard_ends_between_steps_and_keeps_what_is_done(tmp_path):
    made = []
    Shard(None).kept(tmp_path / "one.json", "one", lambda: made.append(1) or [1])
    shard = Shard(0.0)
    assert shard.kept(tmp_path / "one.json", "one", lambda: made.append(2)) == [1]
    with pytest.raises(MoreLeft) as left:
        shard.kept(tmp_path / "two.json", "two", lambda: made.append(3))
    assert left.value.code == MORE_LEFT and made == [1]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Every stage with few rows, interrupted once in between."""
    small = replace(
        config.SMOKE,
        pretraining={"examples": 64, "at_once": 32, "learning_rate": 1e-3, "seed": 1},
        tuned={name: config.SMOKE.tuned[name] for name in ("single", "full fine-tuning")},
        counts=(2,),
        sweeps={"initialisation shared": {"shared": ("init",)}},
    )
    out = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        few = {name: rows.ROWS[name] for name in FEW}
        for module in (rows, stages):
            patch.setattr(module, "ROWS", few)
        patch.setitem(config.WORLDS, "smoke", small)
        patch.setattr(stages, "data_rows", lambda *_: {})
        study = Study(out=out, smoke=True, tasks=("programs",))
        with pytest.raises(MoreLeft):
            main(replace(study, hours=0.0))
        main(study)
        yield study


def test_study_leaves_every_row(studied):
    table = read_marks(studied.out / "results" / "programs-test.npz")
    assert {*FEW, "base", "best seed", "seed 3", "majority vote", "full fine-tuning"} <= {*table}
    assert len(table["mean"]) == 2 and len(table["mean"][0].right) == 12
    assert (studied.out / "results" / "programs-initialisation-shared.npz").exists()
    assert len(read_marks(studied.out / "results" / "programs-n2.npz")["mean"]) == 3


def test_study_is_not_done_again(studied, monkeypatch):
    def never(*_, **__):
        raise AssertionError("done again")

    for name in ("choose", "member_table", "fused_table"):
        monkeypatch.setattr(stages, name, never)
    main(studied)


def test_tests_are_not_opened_before_the_choice(studied, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(stages, "choose", lambda exam, *_: opened.append(exam.questions) or [])
    monkeypatch.setattr(stages, "member_table", lambda *_, **__: pytest.fail("a test was opened"))
    with pytest.raises(KeyError):  # rows without a choice
        world = config.WORLDS["smoke"]
        stage = stages.Stages(
            world,
            Shard(None),
            studied.out / "pretraining" / "adapters" / "seed-1",
            studied.out,
            tmp_path,
            "programs",
        )
        stage.test()
    assert len(opened) == 1 and len(opened[0].tokens) == world.problems["validation"]


def test_nothing_is_chosen_after_the_tests(studied, monkeypatch):
    monkeypatch.setattr(stages, "ROWS", {**stages.ROWS, "ties": rows.ROWS["mean"]})
    with pytest.raises(UserError, match="tests were opened, and ties is not chosen"):
        main(studied)


def test_page_has_every_table(studied):
    page = world_page(studied.out / "results")
    for text in (
        "programs: as trained",
        "what the gain is made of",
        "N = 2",
        "initialisation shared",
    ):
        assert text in page
