"""Serving many members at once equals decoding each alone, without a cache."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax import memory
from lorafuse_jax.adapted import extend_rows, row_logits, row_scores
from lorafuse_jax.bank import make_bank
from lorafuse_jax.generation import serve as serving
from lorafuse_jax.generation.request import Engine, Request, samples
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.lora import adapter_hook
from lorafuse_jax.models.config import Sliding
from lorafuse_jax.models.decoder import hidden_states
from lorafuse_jax.models.head import output_logits
from lorafuse_jax.types import UserError
from tests.tiny import random_adapter, random_dense, tiny_config, tiny_params

CONFIG = tiny_config()
WINDOWED = tiny_config(sliding=Sliding(window=7, layers=(True, False)))
NEW_TOKENS = 20
PARAMS = tiny_params(CONFIG)


def engine(*stop_tokens, config=CONFIG):
    return Engine(
        partial(extend_rows, config),
        partial(row_logits, config),
        partial(row_scores, config),
        stop_tokens or (-7,),
        config.context_length,
    )


ENGINE = engine()


def members():
    """Of every kind, and of different rank."""
    low = [random_adapter(PARAMS, seed, rank=2 + seed) for seed in range(2)]
    some = random_adapter(PARAMS, 5, targets="layers/mlp/up_proj")
    return [low[0], {}, random_dense(PARAMS, 3), low[1], some]


def requests(seed, count=5, **changes):
    rng = np.random.default_rng(seed)
    draw = lambda low, high: rng.integers(1, 97, rng.integers(low, high)).astype(np.int32)  # noqa: E731
    return [
        Request(draw(1, 60), int(rng.integers(3, NEW_TOKENS)), draw(1, 20), **changes)
        for _ in range(count)
    ]


def ask(adapters, queues, *, lanes=2, engine=ENGINE, **settings):
    answers = serve(engine, PARAMS, make_bank(adapters), queues, lanes=lanes, **settings)
    return {(one.member, one.request): one for one in answers}


@partial(jax.jit, static_argnums=0)
def _logits(config, adapter, tokens):
    hook = adapter_hook(adapter) if adapter else None
    return output_logits(config, PARAMS, hidden_states(config, PARAMS, tokens, hook=hook))[0]


def logits_of(adapter, tokens, config=CONFIG):
    """Of the whole sequence at once; what pads it to one shape comes after it and is not seen."""
    padded = np.zeros((1, 96), np.int32)
    padded[0, : len(tokens)] = tokens
    return np.asarray(_logits(config, adapter, jnp.asarray(padded)), np.float64)[: len(tokens)]


def slow_greedy(adapters, request, stop_token=-7, config=CONFIG):
    """Of one adapter, or of the mean of several adapters' logits."""
    tokens = list(request.prompt)
    for _ in range(request.max_new_tokens):
        logits = np.mean([logits_of(one, tokens, config)[-1] for one in adapters], axis=0)
        tokens.append(int(logits.argmax()))
        if tokens[-1] == stop_token:
            return tokens[len(request.prompt) : -1]
    return tokens[len(request.prompt) :]


def check_scores(adapter, request, answer):
    check_scores_together([adapter], request, answer)


def check_scores_together(adapters, request, answer):
    """By the mean of several adapters' logits."""
    tokens = np.concatenate([request.prompt, request.reference])
    every = np.mean([logits_of(adapter, tokens) for adapter in adapters], axis=0)
    logits = every[len(request.prompt) - 1 : -1]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = log_probs[np.arange(len(request.reference)), request.reference]
    np.testing.assert_allclose(answer.log_probs, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(answer.best, logits.argmax(-1) == request.reference)


def test_every_kind_of_member_answers_as_it_does_alone():
    adapters, asked = members(), requests(seed=17, count=9)
    stop = slow_greedy([adapters[0]], asked[0])[2]  # really generated, so that rows stop
    answers = ask(adapters, [asked] * len(adapters), engine=engine(stop))
    assert len(answers) == len(adapters) * len(asked)
    for (member, number), one in answers.items():
        assert one.tokens.tolist() == slow_greedy([adapters[member]], asked[number], stop)
        check_scores(adapters[member], asked[number], one)
    assert len(answers[0, 0].tokens) <= 2


def test_layers_with_a_window_see_no_more_of_the_cache():
    asked = requests(seed=3)
    answers = ask([{}], [asked], engine=engine(config=WINDOWED))
    for (_, number), one in answers.items():
        assert one.tokens.tolist() == slow_greedy([{}], asked[number], config=WINDOWED)


@pytest.mark.parametrize("config", [CONFIG, WINDOWED])
def test_what_all_prompts_begin_with_is_read_once(config, monkeypatch):
    adapters = members()[:3]
    begin = np.arange(3, 16, dtype=np.int32)
    asked = [r._replace(prompt=np.concatenate([begin, r.prompt])) for r in requests(seed=41)]
    asked[0] = asked[0]._replace(prompt=np.append(begin, 5).astype(np.int32))
    seen = []
    real = serving.read

    def counted(engine, together, params, bank, prefix, reading):
        seen.append((int(prefix.length), int((reading.segments > 0).sum())))
        return real(engine, together, params, bank, prefix, reading)

    monkeypatch.setattr(serving, "read", counted)
    answers = ask(adapters, [asked] * 3, engine=engine(config=config))
    assert {shared for shared, _ in seen} == {13}
    assert sum(n for _, n in seen) == 3 * sum(one.read_length - 13 for one in asked)
    for (member, number), one in answers.items():
        expected = slow_greedy([adapters[member]], asked[number], config=config)
        assert one.tokens.tolist() == expected
        if config is CONFIG:
            check_scores(adapters[member], asked[number], one)


def test_a_prompt_with_several_references_of_one_token_is_read_once(monkeypatch):
    adapters, asked = members()[:3], []
    for one in requests(seed=31, count=6):
        first = [one._replace(reference=np.array([n], np.int32)) for n in (5, 9, 70)]
        scored = [request._replace(max_new_tokens=0) for request in first]
        asked += [scored[0], first[1], scored[2]]
    asked.append(asked[-2]._replace(reference=np.array([7, 8, 9], np.int32)))
    seen = []
    real = serving.read

    def counted(engine, together, params, bank, prefix, reading):
        seen.append(int((reading.segments > 0).sum()))
        return real(engine, together, params, bank, prefix, reading)

    monkeypatch.setattr(serving, "read", counted)
    answers = ask(adapters, [asked] * 3, lanes=7)
    prompts = {one.prompt.tobytes(): len(one.prompt) for one in asked}
    assert sum(seen) == 3 * (sum(prompts.values()) + len(asked[-1].prompt) + 2)
    for (member, number), one in answers.items():
        if asked[number].max_new_tokens:
            assert one.tokens.tolist() == slow_greedy([adapters[member]], asked[number])
        check_scores(adapters[member], asked[number], one)


def test_members_with_queues_of_their_own_are_served():
    adapters, asked = members()[:3], requests(seed=5, count=7)
    queues = [asked[:1], [], asked[1:]]
    answers = ask(adapters, queues, lanes=3)
    assert len(answers) == 7
    for (member, number), one in answers.items():
        assert one.tokens.tolist() == slow_greedy([adapters[member]], queues[member][number])


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "top_p": 0.9, "min_p": 0.01}])
def test_answers_do_not_depend_on_the_batch(settings):
    adapters = members()[:2]
    asked = [r._replace(seed=n) for n, r in enumerate(requests(seed=23, count=6, **settings))]
    together = ask(adapters, [asked] * 2, lanes=6)
    alone = ask(adapters[1:], [asked[4:5]], lanes=1)
    assert together[1, 4].tokens.tolist() == alone[0, 0].tokens.tolist()
    reversed_order = ask(adapters, [asked[::-1]] * 2, lanes=2)
    for (member, number), one in together.items():
        other = reversed_order[member, len(asked) - 1 - number]
        assert one.tokens.tolist() == other.tokens.tolist()


def compiled_by(work):
    """Names of the programs that some work compiles."""
    names = []

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        work()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return names


def given(lengths, seed, shared=0, **changes):
    """Prompts of these lengths, with so many tokens in common, answered with four tokens."""
    rng = np.random.default_rng(seed)
    draw = lambda size: rng.integers(1, 97, size).astype(np.int32)  # noqa: E731
    begin = draw(shared)
    return [Request(np.concatenate([begin, draw(n)]), 4, draw(1), **changes) for n in lengths]


def test_a_program_is_compiled_once_for_all_batches_of_its_bucket():
    """Other prompts, other lengths, another number of them, other settings and adapters."""
    adapters, own = members()[:3], engine()
    others = [random_adapter(PARAMS, 7, rank=2), {}, random_dense(PARAMS, 8)]
    banks = [make_bank(adapters), make_bank(others)]

    def work(bank, asked):
        return lambda: list(serve(own, PARAMS, bank, [asked] * 3, lanes=8))

    sampled = {"temperature": 1.0, "min_p": 0.1}
    first = compiled_by(work(banks[0], given([9, 12, 15, 17, 18], seed=1, shared=9, **sampled)))
    assert {"jit(read_prefix)", "jit(read)", "jit(start)", "jit(go_on)"} <= set(first)
    again = given([8, 11, 12, 14, 15, 16], seed=2, shared=12, temperature=0.5, min_p=0.2)
    assert compiled_by(work(banks[1], again)) == []


def test_lanes_of_rows_that_have_ended_are_given_up(monkeypatch):
    """One long answer among short ones: the batch gets as narrow as what is left of it."""
    widths = []
    real = serving.go_on

    def watched(engine, choice, params, bank, lanes):
        widths.append((lanes.token.shape[0], int((lanes.left > 0).sum())))
        return real(engine, choice, params, bank, lanes)

    monkeypatch.setattr(serving, "go_on", watched)
    asked = [one._replace(max_new_tokens=5) for one in given([9] * 8, seed=3)]
    asked[2] = asked[2]._replace(max_new_tokens=40)
    answers = ask(members()[:2], [asked] * 2, lanes=8)
    assert widths[0] == (16, 16)
    assert [width for width, _ in widths[1:]] == [2] * (len(widths) - 1)
    assert 4 <= len(widths) <= 6
    for (member, number), one in answers.items():
        assert one.tokens.tolist() == slow_greedy([members()[member]], asked[number])


def test_a_lane_that_is_free_takes_the_next_prompt(monkeypatch):
    """Two lanes and six answers of eight steps: the steps of three batches, not of six."""
    steps = []
    real = serving.go_on
    count = lambda *args: steps.append(1) or real(*args)  # noqa: E731
    monkeypatch.setattr(serving, "go_on", count)
    asked = [one._replace(max_new_tokens=9) for one in given([9] * 6, seed=4)]
    ask([{}], [asked], lanes=2)
    assert len(steps) == 3


def test_samples_of_one_prompt_differ_and_come_again():
    request = requests(seed=2, count=1, temperature=1.5)[0]._replace(max_new_tokens=12)
    many = samples(request, 6)
    first, again = (ask([{}], [many], lanes=4) for _ in range(2))
    texts = [tuple(first[0, n].tokens) for n in range(6)]
    assert len(set(texts)) == 6
    assert texts == [tuple(again[0, n].tokens) for n in range(6)]


def test_an_ensemble_decodes_the_mean_of_its_members_logits():
    adapters, asked = members()[:3], requests(seed=29)
    answers = ask(adapters, [asked] * 3, lanes=3, ensemble=True)
    assert answers.keys() == {(0, number) for number in range(len(asked))}
    for (_, number), one in answers.items():
        assert one.tokens.tolist() == slow_greedy(adapters, asked[number])
        check_scores_together(adapters, asked[number], one)


def test_an_ensemble_scores_as_the_normalised_mean_of_its_members_log_probabilities():
    adapters = members()[:2]
    asked = [one._replace(max_new_tokens=0) for one in requests(seed=41, count=7)]
    common = requests(seed=43, count=1)[0].prompt[:12]  # read once, before all prompts
    asked = [one._replace(prompt=np.concatenate([common, one.prompt])) for one in asked]
    for (_, number), one in ask(adapters, [asked] * 2, ensemble=True).items():
        request = asked[number]
        tokens = np.concatenate([request.prompt, request.reference])
        logits = np.stack([logits_of(adapter, tokens) for adapter in adapters])
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        mean = log_probs.mean(axis=0)[len(request.prompt) - 1 : -1]
        mean -= np.log(np.exp(mean).sum(-1, keepdims=True))
        expected = mean[np.arange(len(request.reference)), request.reference]
        np.testing.assert_allclose(one.log_probs, expected, rtol=1e-4, atol=1e-3)


def test_an_answer_that_is_said_to_have_ended_leaves():
    asked = requests(seed=31, count=6)
    answers = ask([{}], [asked], ended=lambda request, tokens: len(tokens) >= 2)
    for (_, number), one in answers.items():
        assert 2 <= len(one.tokens) <= 2 + 8
        whole = slow_greedy([{}], asked[number])
        assert one.tokens.tolist() == whole[: len(one.tokens)]


def test_scores_alone_need_no_lanes(monkeypatch):
    monkeypatch.setattr(serving, "idle", None)
    asked = [one._replace(max_new_tokens=0) for one in requests(seed=37, count=8)]
    adapters = members()[:2]
    for (member, number), one in ask(adapters, [asked] * 2).items():
        assert len(one.tokens) == 0
        check_scores(adapters[member], asked[number], one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": np.zeros(0, np.int32)}, "the prompt has no tokens"),
        ({"max_new_tokens": 500}, "more than the 256 of the model's context"),
        ({"temperature": -1.0}, "temperature -1.0 is below 0"),
        ({"top_p": 0.0}, r"top_p 0.0 is not in \(0, 1\]"),
        ({"min_p": 1.0}, r"min_p 1.0 is not in \[0, 1\)"),
        ({"reference": np.array([5, 97], np.int32)}, r"token id 97 is not in \[0, 97\)"),
        ({"prompt": np.array([-1], np.int32)}, r"token id -1 is not in"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_before_the_first_answer(changes, message):
    asked = requests(seed=1)
    asked[3] = asked[3]._replace(**changes)
    with pytest.raises(UserError, match=f"request 3 of member 0.*{message}"):
        ask([{}], [asked])


def test_too_little_memory_is_foreseen(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    with pytest.raises(UserError, match=r"decoding 4 rows at once needs about .* at most \d rows"):
        ask([{}], [requests(seed=1)], lanes=4)
