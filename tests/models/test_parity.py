"""Logits against transformers' torch models."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from lorafuse_jax.adapted import forward
from lorafuse_jax.assets import fetch
from lorafuse_jax.models import attention
from lorafuse_jax.models.cache import Past
from lorafuse_jax.models.decoder import extend, hidden_states
from lorafuse_jax.models.families import FAMILIES
from lorafuse_jax.models.head import output_logits, score_tokens, token_log_probs
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.models.safetensors_folder import stored_tensors
from lorafuse_jax.models.weights import load_params
from tests.models.families import TYPICAL, VOCAB, drawn_settings, torch_model
from tests.tiny import tiny_config, tiny_params

RELATIVE = 3e-5
"""Float32 sums in another order, through two layers; logits of these models reach about 50."""

REAL_ABSOLUTE = 1e-3
"""The same through thirty layers; measured 1.3e-4 on logits of up to 44."""

REAL_TEXTS = (
    "Question: A boy has 13 pencils, his sister 3 fewer. How many?\nAnswer: 13 - 3 = 10",
    "def add(a, b):\n    return a + b\n\n" * 20,
    "Über die Brücke gingen 1984 genau 27 Männer; 其余的人留在家里。",
)


def our_logits(folder, tokens):
    described = json.loads((folder / "config.json").read_text())
    family = FAMILIES[described["model_type"]]
    config = family.config_from_hf(described)
    stored = stored_tensors(folder)
    params = load_params(stored, config, family.WEIGHTS, jnp.float32, where=folder)
    return output_logits(config, params, hidden_states(config, params, jnp.asarray(tokens)))


def torch_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()


def check_parity(family, seed, changes, folder):
    model = torch_model(family, seed, changes)
    model.save_pretrained(folder)
    tokens = np.random.default_rng(seed).integers(0, VOCAB, (2, 50))
    expected = torch_logits(model, tokens)
    ours = our_logits(folder, tokens)
    np.testing.assert_allclose(ours, expected, atol=RELATIVE * np.abs(expected).max())


@pytest.mark.parametrize("family", FAMILIES)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # to shrink a failure takes minutes
)
@given(data=st.data(), seed=st.integers(0, 10000))
def test_tiny_models_give_the_logits_of_transformers(tmp_path_factory, family, data, seed):
    changes = data.draw(drawn_settings(family))
    check_parity(family, seed, changes, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("family", FAMILIES)
def test_typical_models_give_the_logits_of_transformers(tmp_path, family):
    check_parity(family, 3, TYPICAL[family], tmp_path)


def test_a_checkpoint_of_the_bare_model_loads(tmp_path):
    """As the first GPT-2 release: names without ``transformer.``, and the causal masks stored."""
    model = torch_model("gpt2", 4, TYPICAL["gpt2"])
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    bare = {name.removeprefix("transformer."): value for name, value in load_file(file).items()}
    save_file(bare | {"h.0.attn.bias": np.tril(np.ones((1, 1, 64, 64), np.float32))}, file)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (1, 20))
    expected = torch_logits(model, tokens)
    ours = our_logits(tmp_path, tokens)
    np.testing.assert_allclose(ours, expected, atol=RELATIVE * np.abs(expected).max())


def test_shards_and_half_precision_files_load(tmp_path):
    model = torch_model("llama", 5, TYPICAL["llama"]).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    tokens = np.random.default_rng(0).integers(0, VOCAB, (1, 20))
    reference = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = torch_logits(reference, tokens)
    ours = our_logits(tmp_path, tokens)
    np.testing.assert_allclose(ours, expected, atol=RELATIVE * np.abs(expected).max())


def test_packed_examples_are_blind_to_each_other():
    config, rng = tiny_config(), np.random.default_rng(1)
    params = tiny_params(config)
    parts = [rng.integers(0, 97, n) for n in (5, 9, 3)]
    row = np.concatenate([*parts, np.zeros(4, int)])[None]
    segments = np.repeat([1, 2, 3, 0], [5, 9, 3, 4])[None]
    positions = np.concatenate([np.arange(5), np.arange(9), np.arange(3), np.zeros(4, int)])[None]
    row, segments, positions = map(jnp.asarray, (row, segments, positions))
    packed = hidden_states(config, params, row, positions=positions, segments=segments)[0]
    start = 0
    for part in parts:
        alone = hidden_states(config, params, jnp.asarray(part[None]))[0]
        np.testing.assert_allclose(packed[start : start + len(part)], alone, atol=2e-5)
        start += len(part)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_steps_equal_the_whole_sequence(family):
    """A prompt, then a piece of several tokens, then single ones; slots in any order."""
    described = torch_model(family, 0, TYPICAL[family]).config.to_dict()
    config = FAMILIES[family].config_from_hf(described)
    params, rng = tiny_params(config, seed=6), np.random.default_rng(2)
    tokens = jnp.asarray(rng.integers(0, VOCAB, (3, 14)))
    whole = hidden_states(config, params, tokens)
    order = rng.permutation(20)
    slots = lambda x: jnp.zeros((*x.shape[:3], 20, x.shape[4]))  # noqa: E731
    past, pieces = None, []
    for start, end in ((0, 6), (6, 10), *((at, at + 1) for at in range(10, 14))):
        positions = jnp.tile(jnp.arange(start, end), (3, 1))
        hidden, kept = extend(config, params, tokens[:, start:end], positions=positions, past=past)
        pieces.append(hidden)
        if past is None:
            past = Past(slots(kept.keys), slots(kept.values), jnp.full((3, 20), -1))
        at = order[start:end]
        past = Past(
            past.keys.at[:, :, :, at].set(kept.keys),
            past.values.at[:, :, :, at].set(kept.values),
            past.positions.at[:, at].set(positions),
        )
    np.testing.assert_allclose(jnp.concatenate(pieces, axis=1), whole, atol=5e-5, rtol=1e-4)


def test_rows_of_a_cache_that_is_read_in_slices_do_not_mix(monkeypatch):
    config, rng = tiny_config(), np.random.default_rng(3)
    params, tokens = tiny_params(config), jnp.asarray(rng.integers(0, 97, (6, 9)))
    _, kept = extend(config, params, tokens[:, :8])
    past = Past(*kept, jnp.tile(jnp.arange(8), (6, 1)))
    step = partial(extend, config, params, tokens[:, 8:], positions=jnp.full((6, 1), 8), past=past)
    at_once, _ = step()
    monkeypatch.setattr(attention, "CPU_SLICE_BYTES", 2 * 2 * 8 * 4 * 4)  # two rows
    np.testing.assert_allclose(step()[0], at_once, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_chosen_log_probs_and_their_gradient_equal_plain_softmax(tied, softcap):
    config = tiny_config(tie_embeddings=tied, logit_softcap=softcap)
    rng = np.random.default_rng(4)
    params = tiny_params(config)
    hidden = jnp.asarray(rng.normal(size=(300, 16)), jnp.float32)  # more than two chunks
    targets, weights = rng.integers(0, 97, 300), jnp.asarray(rng.random(300), jnp.float32)

    def ours(h):
        return (token_log_probs(config, params, h, jnp.asarray(targets)) * weights).sum()

    def plain(h):
        log_probs = jax.nn.log_softmax(output_logits(config, params, h))
        return (log_probs[jnp.arange(300), targets] * weights).sum()

    for mine, other in zip(
        jax.value_and_grad(ours)(hidden), jax.value_and_grad(plain)(hidden), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-4)


def test_a_target_is_best_where_greedy_decoding_would_choose_it():
    config, rng = tiny_config(), np.random.default_rng(4)
    params = tiny_params(config)
    hidden = jnp.asarray(rng.normal(size=(150, 16)), jnp.float32)
    greedy = np.asarray(output_logits(config, params, hidden)).argmax(-1)
    targets = np.where(rng.random(150) < 0.5, greedy, rng.integers(0, 97, 150))
    log_probs, best = score_tokens(config, params, hidden, jnp.asarray(targets))
    np.testing.assert_array_equal(best, targets == greedy)
    np.testing.assert_allclose(
        log_probs, token_log_probs(config, params, hidden, jnp.asarray(targets)), rtol=1e-6
    )


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma3-270m"])
def test_real_weights_give_the_logits_of_transformers(name):
    folder = fetch(name)
    model = load_model(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for text in REAL_TEXTS:
        tokens = [model.tokenizer(text)["input_ids"]]
        expected = torch_logits(reference, tokens)
        ours = forward(model, model.params, None, jnp.asarray(tokens))
        np.testing.assert_allclose(ours, expected, rtol=0, atol=REAL_ABSOLUTE)
        assert np.abs(expected).max() > 10
