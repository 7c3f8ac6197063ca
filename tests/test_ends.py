"""Updates of the embedding and of the output head: against PEFT, in training and in decoding."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

import lorafuse_jax as lf
from lorafuse_jax.adapted import batch_log_probs, input_grams
from lorafuse_jax.bank import make_bank
from lorafuse_jax.data.batches import BatchShape, pack
from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.generation.request import Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.lora import ALL_LINEAR, adapter_head_hook, adapter_hook
from lorafuse_jax.models import hub
from lorafuse_jax.models.families import llama
from lorafuse_jax.text_generation import make_engine
from lorafuse_jax.types import EMBEDDING, HEAD, DenseDelta, LoraPair, UserError
from tests.models.families import TYPICAL, VOCAB, torch_model
from tests.tiny import tiny_config, tiny_params, tiny_tokenizer

RANK, ALPHA = 3, 6.0
ROUNDING = 3e-5
"""Relative to the largest entry: two orders of summation in float32, over three layers."""

CASES = {
    "llama": ("llama", {"tie_word_embeddings": False}, ("embed_tokens", "lm_head")),
    "llama tied": ("llama", {"tie_word_embeddings": True}, ("embed_tokens", "lm_head")),
    "llama tied, embedding alone": ("llama", {"tie_word_embeddings": True}, ("embed_tokens",)),
    "gemma": ("gemma3_text", {"final_logit_softcapping": 5.0}, ("embed_tokens", "lm_head")),
    "gpt2": ("gpt2", {}, ("wte", "lm_head")),
}
INNER = {"gpt2": ("c_attn", "layers/self_attn/qkv_proj")}
"""A projection of the layers that is adapted beside: its name for PEFT, and for us."""


class Pair(NamedTuple):
    """A model of ours, and the same in PEFT with a random adapter that ``adapter`` holds too."""

    ours: lf.Model
    theirs: torch.nn.Module
    adapter: dict[str, LoraPair]


@pytest.fixture
def make_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "check_vocabulary", lambda *given: None)

    def make(case: str) -> Pair:
        family, changes, ends = CASES[case]
        reference = torch_model(family, 8, TYPICAL[family] | changes)
        reference.save_pretrained(tmp_path / "model")
        tiny_tokenizer().save_pretrained(tmp_path / "model")
        theirs, ours = INNER.get(family, ("down_proj", "layers/mlp/down_proj"))
        settings = {"r": RANK, "lora_alpha": ALPHA, "target_modules": [theirs, *ends]}
        adapted = get_peft_model(reference, LoraConfig(**settings)).eval()
        torch.manual_seed(3)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        return Pair(lf.load_model(tmp_path / "model"), adapted, factors(adapted, ours, theirs))

    return make


def factors(model, inner, name, get=lambda parameter: parameter) -> dict[str, LoraPair]:
    """``get`` of PEFT's factors, as ours are laid out and without their scale."""

    def array(parameters):
        return jnp.stack([jnp.asarray(get(p).detach().numpy().T) for p in parameters])

    modules = dict(model.base_model.model.named_modules())
    found = {}
    layers = [own for path, own in modules.items() if path.endswith(f".{name}")]
    for module, some in (
        (inner, layers),
        (
            HEAD,
            [own for path, own in modules.items() if path == "lm_head" and hasattr(own, "lora_A")],
        ),
    ):
        if some:
            found[module] = LoraPair(
                array([own.lora_A["default"].weight for own in some]),
                array([own.lora_B["default"].weight for own in some]),
            )
    (table,) = (own for own in modules.values() if getattr(own, "lora_embedding_A", None))
    found[EMBEDDING] = LoraPair(
        array([table.lora_embedding_A["default"]]), array([table.lora_embedding_B["default"]])
    )
    return found


def scaled(adapter):
    return {m: pair._replace(lora_b=pair.lora_b * ALPHA / RANK) for m, pair in adapter.items()}


def draw_tokens(count: int) -> np.ndarray:
    """Without 0, the padding token, whose row PEFT does not train."""
    return np.random.default_rng(5).integers(1, VOCAB, count).astype(np.int32)


@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_equal_pefts(make_pair, case):
    ours, theirs, adapter = make_pair(case)
    tokens = draw_tokens(19)
    logits = theirs(torch.tensor(tokens, dtype=torch.int64)[None]).logits
    expected = logits.detach().numpy()
    found = lf.forward(ours, ours.params, scaled(adapter), jnp.asarray(tokens)[None])
    np.testing.assert_allclose(found, expected, atol=ROUNDING * np.abs(expected).max())
    plain = lf.forward(ours, ours.params, None, jnp.asarray(tokens)[None])
    assert np.abs(found - plain).max() > 0.05 * np.abs(expected).max()

    prompt, answer = tokens[:7], tokens[7:]
    chosen = logits[0, 6:-1].log_softmax(-1)[range(12), torch.tensor(answer, dtype=torch.int64)]
    (-chosen.sum()).backward()
    example = Encoded.from_answer("0", prompt, answer)
    batch = jax.tree.map(jnp.asarray, pack([example], BatchShape(1, 24, 16)))
    rules = [lf.LoraRule(rank=RANK, alpha=ALPHA, targets=module) for module in adapter]

    def loss(adapter):
        log_probs = batch_log_probs(ours.config, ours.params, adapter, batch, rules=rules)
        return -(log_probs * batch.loss_weight).sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(adapter)
    np.testing.assert_allclose(value, -chosen.sum().item(), rtol=ROUNDING)
    family = CASES[case][0]
    theirs_name, ours_name = INNER.get(family, ("down_proj", "layers/mlp/down_proj"))
    reference = factors(theirs, ours_name, theirs_name, lambda parameter: parameter.grad)
    assert grads.keys() == reference.keys()
    for module, pair in reference.items():
        for mine, other in zip(grads[module], pair, strict=True):
            bound = 10 * ROUNDING * np.abs(other).max()
            np.testing.assert_allclose(mine, other, atol=bound)
            assert np.abs(other).max() > 1e-3


TINY = tiny_config(vocab_size=97, tie_embeddings=False, logit_softcap=4.0, embedding_scale=3.0)
PARAMS = tiny_params(TINY)
MODEL = lf.Model(
    config=TINY,
    params=PARAMS,
    tokenizer=None,
    path=Path("."),
    fingerprint="",
    stop_tokens=(0,),
    family=llama,
)
ALL = (ALL_LINEAR, EMBEDDING, HEAD)
FORWARD = jax.jit(partial(lf.forward, MODEL))


def random_ends(seed: int, rank: int = 2, targets=ALL) -> dict[str, LoraPair]:
    """An adapter none of whose factors is zero."""
    rng = np.random.default_rng(seed)
    fresh = lf.init_adapter(
        jax.random.key(0), PARAMS, [lf.LoraRule(rank=rank, targets=target) for target in targets]
    )
    draw = lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, fresh)


def test_fresh_update_of_the_embedding_is_zero_in_a_and_normal_in_b():
    """With enough entries for a mean and a deviation: PEFT's nn.init.normal_ has 0 and 1."""
    rules = [lf.LoraRule(rank=64, targets=end) for end in (EMBEDDING, HEAD)]
    fresh = lf.init_adapter(jax.random.key(1), PARAMS, rules)
    table, head = fresh[EMBEDDING], fresh[HEAD]
    assert (table.lora_a.shape, table.lora_b.shape) == ((1, 97, 64), (1, 64, 16))
    assert (head.lora_a.shape, head.lora_b.shape) == ((1, 16, 64), (1, 64, 97))
    assert not np.asarray(table.lora_a).any() and not np.asarray(head.lora_b).any()
    assert abs(np.mean(table.lora_b)) < 5 / 32 and abs(np.std(table.lora_b) - 1) < 5 / 45
    tokens = jnp.arange(12)[None]
    base, adapted = (FORWARD(PARAMS, one, tokens) for one in (None, fresh))
    np.testing.assert_array_equal(base, adapted)


@pytest.mark.parametrize("dense", [False, True])
def test_update_of_the_ends_equals_merged_weights(dense):
    adapter = random_ends(2)
    adapter = lf.to_delta(adapter) if dense else adapter
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 97, (2, 11)))
    merged = FORWARD(lf.merge_into(PARAMS, adapter), None, tokens)
    found = FORWARD(PARAMS, adapter, tokens)
    np.testing.assert_allclose(found, merged, atol=5 * ROUNDING * float(jnp.abs(merged).max()))


def members():
    """The base, and updates of all, of the layers or one end alone, dense, and of another rank."""
    return [
        {},
        random_ends(1),
        random_ends(2, targets=(ALL_LINEAR,)),
        random_ends(3, rank=5),
        lf.to_delta(random_ends(4)),
        random_ends(5, targets=(EMBEDDING,)),
        random_ends(6, targets=(HEAD,)),
    ]


def test_members_with_and_without_updates_of_the_ends_decode_and_score_in_one_batch():
    rng = np.random.default_rng(7)
    draw = lambda: rng.integers(1, 97, rng.integers(3, 30)).astype(np.int32)  # noqa: E731
    asked = [Request(draw(), 6, draw()) for _ in range(5)]
    adapters = members()
    few, many = asked[:2], asked
    queues = [few if number % 2 else many for number in range(len(adapters))]
    engine = make_engine(MODEL)._replace(stop_tokens=(-7,))
    for one in serve(engine, PARAMS, make_bank(adapters), queues, lanes=2):
        request = queues[one.member][one.request]
        expected = greedy(partial(FORWARD, PARAMS, adapters[one.member]), request)
        assert one.tokens.tolist() == expected
        text = np.concatenate([request.prompt, request.reference])
        log_probs = jax.nn.log_softmax(padded(partial(FORWARD, PARAMS, adapters[one.member]), text))
        start = len(request.prompt) - 1
        chosen = np.asarray(log_probs)[np.arange(start, len(text) - 1), request.reference]
        np.testing.assert_allclose(one.log_probs, chosen, atol=1e-3, rtol=1e-4)


def padded(forward, text):
    """Logits of one text, read at one length so that there is one program."""
    tokens = np.zeros((1, 64), np.int32)
    tokens[0, : len(text)] = text
    return forward(jnp.asarray(tokens))[0]


def greedy(forward, request):
    tokens = list(request.prompt)
    for _ in range(request.max_new_tokens):
        tokens.append(int(padded(forward, tokens)[len(tokens) - 1].argmax()))
    return tokens[len(request.prompt) :]


def test_dropout_is_of_the_heads_input_and_never_of_the_embedding():
    rules = [lf.LoraRule(rank=2, dropout=0.5, targets=end) for end in (EMBEDDING, HEAD)]
    adapter = random_ends(1, targets=(EMBEDDING, HEAD))
    rng = np.random.default_rng(0)
    tokens, hidden = jnp.arange(20), jnp.asarray(rng.normal(size=(20, 16)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 400)
    rows = [
        adapter_hook(adapter, rules=rules, dropout_key=key).embedding for key in (None, keys[0])
    ]
    np.testing.assert_array_equal(rows[0](tokens), rows[1](tokens))

    def change(key):
        hook = adapter_head_hook(adapter, rules=rules, dropout_key=key)
        (features,), (kernel,) = hook.features(hidden), hook.kernels
        return features @ kernel

    whole, draws = change(None), jax.vmap(change)(keys)
    assert np.abs(draws[0] - draws[1]).max() > 0.1
    # 400 draws that keep half: five standard errors of the mean.
    np.testing.assert_allclose(draws.mean(0), whole, atol=5 * float(draws.std(0).max()) / 20)


@pytest.mark.parametrize("name", [name for name, op in lf.OPERATORS.items() if not op.statistic])
def test_every_operator_takes_members_with_ends(name):
    """Modules of one layer beside modules of two."""
    op = lf.OPERATORS[name]
    key = jax.random.key(0) if op.stochastic else None
    stacked = lf.stack([random_ends(seed) for seed in range(2)])
    fused = jax.eval_shape(lambda stacked: lf.to_delta(op(stacked, key=key)), stacked)
    shapes = {module: update.delta.shape for module, update in fused.items()}
    assert shapes == {m: (*p.lora_a.shape[1:3], p.lora_b.shape[-1]) for m, p in stacked.items()}


def test_mean_of_tables_and_heads_is_exact():
    members = [random_ends(seed, targets=(EMBEDDING, HEAD)) for seed in range(3)]
    fused = lf.to_delta(lf.OPERATORS["mean"](lf.stack(members)))
    for end, update in fused.items():
        alone = [np.asarray(one[end].lora_a, "f8") @ np.asarray(one[end].lora_b) for one in members]
        np.testing.assert_allclose(update.delta, np.mean(alone, axis=0), atol=1e-6)


def test_regular_expressions_are_for_the_layers():
    adapter = lf.init_adapter(jax.random.key(0), PARAMS, [lf.LoraRule(targets=".*")])
    assert len(adapter) == 7 and not adapter.keys() & {EMBEDDING, HEAD}
    with pytest.raises(UserError, match=r"(?s)'embed' match no module.*embed_tokens\n  lm_head"):
        lf.init_adapter(jax.random.key(0), PARAMS, [lf.LoraRule(targets="embed")])


def test_what_cannot_be_done_with_the_ends_is_said():
    tokens = jnp.arange(5)[None]
    with pytest.raises(UserError, match=r"lm_head: the adapter is for .*\[1, 16, 96\]"):
        wrong = {HEAD: DenseDelta(jnp.ones((1, 16, 96)))}
        lf.forward(MODEL, PARAMS, wrong, tokens)
    with pytest.raises(UserError, match="no regmean of an embedding"):
        input_grams(MODEL, random_ends(0), tokens)
    tied = {name: leaf for name, leaf in PARAMS.items() if name != HEAD}
    with pytest.raises(UserError, match=r"are one table.*lorafuse export"):
        lf.merge_into(tied, random_ends(0))
