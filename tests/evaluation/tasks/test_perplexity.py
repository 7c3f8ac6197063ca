"""Windows, log-probabilities and counts of held-out text, against lm-eval's own."""

import math
import shutil

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lorafuse_jax.bank import make_bank
from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.tasks.perplexity import METRICS, WIKITEXT
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmarks import pose
from lorafuse_jax.workflow.questions import requests_of
from tests.evaluation.tasks.peer import asked, rows_of, task_of, write
from tests.tiny import write_tiny_model

CONTEXT = 256
LENGTHS = (1, 2, 60, CONTEXT - 1, CONTEXT, CONTEXT + 1, 2 * CONTEXT, 2 * CONTEXT + 77)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng()
    draw = lambda n: "x" + "".join(rng.choice(list("abc d.\n"), n - 1))  # noqa: E731
    return [draw(length) for length in LENGTHS]


@pytest.fixture(scope="module")
def posed(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mine.jsonl"
    return pose(f"perplexity:{write(path, [{'text': text} for text in documents])}", None)


def test_windows_are_those_of_lm_eval(folder, documents, posed):
    model = load_model(folder)
    for text, requests in zip(documents, requests_of(posed, model, "qa"), strict=True):
        ids = model.tokenizer(text)["input_ids"]
        windows = get_rolling_token_windows(ids, model.tokenizer.eos_token_id, CONTEXT, 1)
        expected = list(map(make_disjoint_window, windows))
        assert [(r.prompt.tolist(), r.reference.tolist()) for r in requests] == expected


def test_a_begin_token_that_the_tokenizer_adds_is_not_predicted(folder, posed, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    model = load_model(copy)
    model.tokenizer.add_special_tokens({"bos_token": "<end>"})
    real = model.tokenizer.__class__.__call__
    begun = type("Begun", (model.tokenizer.__class__,), {})

    def call(self, text, add_special_tokens=True, **more):
        made = real(self, text, **more)
        head = [self.bos_token_id] if add_special_tokens else []
        return {"input_ids": head + made["input_ids"]}

    begun.__call__ = call
    model.tokenizer.__class__ = begun
    requests = requests_of(posed, model, "qa")
    assert [sum(len(r.reference) for r in own) for own in requests] == list(LENGTHS)


def test_log_probabilities_and_perplexities_are_those_of_lm_eval(folder, documents, posed):
    theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    instances = [
        Instance("loglikelihood_rolling", {}, (text,), n) for n, text in enumerate(documents)
    ]
    expected = theirs.loglikelihood_rolling(instances, disable_tqdm=True)
    model = load_model(folder)
    requests = requests_of(posed, model, "qa")
    queue = [one for own in requests for one in own]
    served = serve(make_engine(model), model.params, make_bank([{}]), [queue], lanes=2)
    answers = {one.request: one.log_probs for one in served}
    left = (answers[number] for number in range(len(queue)))
    responses = []
    for own, total in zip(requests, expected, strict=True):
        windows = [next(left) for _ in own]
        log_probs = tuple(float(x.sum()) for x in windows)
        assert sum(log_probs) == pytest.approx(total, rel=1e-4)
        responses.append(Response(log_probs=log_probs, tokens=tuple(len(x) for x in windows)))
    scores = posed.benchmark.score(posed.questions, responses)
    for score, total, length in zip(scores, expected, LENGTHS, strict=True):
        assert score.fault is None
        assert math.log(score.values[METRICS[0]]) == pytest.approx(total / length, rel=1e-4)


def test_wikitext_counts_and_detokenises_as_lm_eval(tmp_path):
    page = " \n = A title = \n \n It 's 3 @.@ 5 , he said ( yes ) ; 漢 \" so \" . \n N s ' x "
    file = write(tmp_path / "test.jsonl", [{"page": page}, {"page": page[3:-3]}])
    rows = rows_of(file)
    task = task_of(
        tmp_path, "wikitext/wikitext.yaml", dict.fromkeys(("train", "validation", "test"), file)
    )
    questions = WIKITEXT.questions(rows, "")
    for question, (document, arguments) in zip(questions, asked(task), strict=True):
        assert arguments == [question.references]
        results = task.process_results(document, (-33.0,))
        response = Response(log_probs=(-20.0, -13.0), tokens=(4, 5))
        (score,) = WIKITEXT.score([question], [response])
        expected = [math.exp(-33 / 9)]
        for name in ("word_perplexity", "byte_perplexity"):
            total, count = results[name]
            expected.append(math.exp(total / count))
        assert list(score.values.values()) == pytest.approx(expected)


def test_a_text_file_is_one_document(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("One line.\n\nAnother: é\n", encoding="utf-8")
    (question,) = pose(f"perplexity:{file}", None).questions
    assert question.references == ("One line.\n\nAnother: é\n",)
    assert question.gold == {"words": 5, "bytes": 23}
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match=r"mine\.txt: not UTF-8 text"):
        pose(f"perplexity:{file}", None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "  \n"}, r"mine\.jsonl:2: text is '  \\n'; expected a text"),
        ({"text": 3}, r"mine\.jsonl:2: text is 3; expected a text"),
        ({"words": "a"}, r"mine\.jsonl:2: no 'text', which perplexity needs; the line has words"),
    ],
)
def test_a_row_without_text_is_named(row, message, tmp_path):
    file = write(tmp_path / "mine.jsonl", [{"text": "good"}, row])
    with pytest.raises(UserError, match=message):
        pose(f"perplexity:{file}", None)


def test_perplexity_of_nothing_says_what_to_name():
    with pytest.raises(UserError, match="perplexity has no data of its own; name yours after a"):
        pose("perplexity", None)
