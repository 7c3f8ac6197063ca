"""Real questions to the real model: what lm-eval's own torch model says of the same prompts."""

import jax
import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from lorafuse_jax.assets import fetch
from lorafuse_jax.bank import make_bank
from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.workflow.benchmarks import pose
from lorafuse_jax.workflow.questions import requests_of

pytestmark = pytest.mark.real

TOLERANCE = 2e-3
"""Nats, of sums over a choice's tokens of up to 200 nats, both in float32."""

ASKED = {"boolq": 3, "hellaswag": 3, "mmlu": 3}


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's threads wait busily for each other, which costs most where other tests run too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_choices_have_the_log_probabilities_of_lm_evals_own_model():
    folder = fetch("smollm2-135m-instruct")
    model = load_model(folder)
    asked = [pose(name, count) for name, count in ASKED.items()]
    questions = [question for posed in asked for question in posed.questions]
    pairs = [(q.prompt, choice) for q in questions for choice in q.references]
    theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
    instances = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    expected = theirs.loglikelihood(instances, disable_tqdm=True)
    requests = [one for posed in asked for own in requests_of(posed, model, "qa") for one in own]
    served = serve(make_engine(model), model.params, make_bank([{}]), [requests], lanes=4)
    by_number = {one.request: one for one in served}
    found = [by_number[number] for number in range(len(pairs))]
    log_probs = [float(one.log_probs.sum()) for one in found]
    np.testing.assert_allclose(log_probs, [x for x, _ in expected], rtol=0, atol=TOLERANCE)
    assert [bool(one.best.all()) for one in found] == [greedy for _, greedy in expected]
    mine, others = (scored(asked, numbers) for numbers in (log_probs, [x for x, _ in expected]))
    assert mine == others
    assert 0 < np.mean([score.values["acc"] for score in mine]) < 1
    jax.clear_caches()


def scored(asked, log_probs):
    left = iter(log_probs)
    scores = []
    for posed in asked:
        responses = [
            Response(log_probs=tuple(next(left) for _ in question.references))
            for question in posed.questions
        ]
        scores += posed.benchmark.score(posed.questions, responses)
    return scores
