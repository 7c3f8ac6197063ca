"""GGUF files, written as llama.cpp writes them, against the torch models they were made of."""

import gguf
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from lorafuse_jax.adapted import forward
from lorafuse_jax.models import gguf_file, hub
from lorafuse_jax.models.hub import load_model
from lorafuse_jax.types import UserError
from tests.models.families import LINEAR_ROPE, LLAMA3_ROPE, PLAIN, TYPICAL, VOCAB, torch_model

ARCHITECTURES = {hf: arch for arch, hf in gguf_file.ARCHITECTURES.items()}
WIDE = {"hidden_size": 32, "intermediate_size": 64, "head_dim": 8}
"""Quantised rows come in blocks of 32."""


def write_gguf(path, family, model, kind=gguf.GGMLQuantizationType.F32, more=lambda writer: None):
    """The conventions of llama.cpp's converter, written out once more."""
    arch, config = ARCHITECTURES[family], model.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_head_count(config.num_attention_heads)
    if family == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_key_length(config.head_dim)
    if family in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    names = gguf.get_tensor_name_map(
        {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[arch],
        config.num_hidden_layers,
    )
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = value.numpy()
        if family.startswith("gemma") and name.endswith("norm.weight"):
            array = array + 1
        if family == "gpt2" and ".c_" in name and name.endswith("weight"):
            array = array.T
        for key, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if family == "llama" and f".{key}." in name:
                count = getattr(config, heads)
                halves = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
                array = halves.swapaxes(1, 2).reshape(array.shape)
        stored = kind if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        data = stored_bytes(np.ascontiguousarray(array, np.float32), stored)
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(theirs, data, raw_dtype=stored)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def stored_bytes(array, kind):
    """Quantised; or, where the package can only read a kind, small random bytes of this shape."""
    try:
        return gguf.quants.quantize(array, kind)
    except NotImplementedError:
        shape = gguf.quant_shape_to_byte_shape(array.shape, kind)
        # Bytes below 0x30 make no half-precision scale that is not finite.
        return np.random.default_rng(0).integers(0, 0x30, shape, np.uint8)


@pytest.fixture(autouse=True)
def small_tokenizer(monkeypatch):
    """These files carry none; that of the real one is tested with the real one."""
    real = hub.gguf_tokenizer

    def tokenizer(path, metadata):
        return real(path, metadata) if "tokenizer.ggml.tokens" in metadata else _Shortened()

    monkeypatch.setattr(hub, "gguf_tokenizer", tokenizer)


class _Shortened:
    vocab_size = VOCAB
    eos_token_id = 0


def logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens)).logits.numpy()


def check(family, path, model, tolerance):
    loaded = load_model(path)
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, 30))
    expected = logits(model, tokens)
    ours = forward(loaded, loaded.params, None, jnp.asarray(tokens))
    np.testing.assert_allclose(ours, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("family", [f for f in ARCHITECTURES if f != "gemma3_text"])
def test_file_gives_the_logits_of_the_model_it_was_made_of(tmp_path, family):
    changes = {"head_dim": 6, "query_pre_attn_scalar": 6} if family == "gemma2" else {}
    if family == "qwen2":
        changes = {"use_sliding_window": False}
    model = torch_model(family, 1, TYPICAL[family] | changes)
    check(family, write_gguf(tmp_path / "model.gguf", family, model), model, 3e-5)


def test_gemma3_file_has_the_released_models_pattern_of_windows(tmp_path):
    settings = PLAIN | {"num_hidden_layers": 7, "sliding_window": 5, "query_pre_attn_scalar": 6}
    model = torch_model("gemma3_text", 1, settings)
    check("gemma3_text", write_gguf(tmp_path / "m.gguf", "gemma3_text", model), model, 5e-5)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_quantised_tensors_are_those_that_the_gguf_package_dequantises(tmp_path, kind):
    """The model is rounded first, so that the file holds it exactly."""
    kind = gguf.GGMLQuantizationType[kind]
    model = torch_model("llama", 2, PLAIN | WIDE)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.ndim == 2:
                rounded = gguf.quants.quantize(value.numpy(), kind)
                value.copy_(torch.from_numpy(gguf.quants.dequantize(rounded, kind).copy()))
    check("llama", write_gguf(tmp_path / "m.gguf", "llama", model, kind), model, 3e-5)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS"])
def test_kinds_that_are_only_read_come_as_the_gguf_package_dequantises_them(tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    wide = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "num_hidden_layers": 2}
    model = torch_model("llama", 2, PLAIN | wide)
    params = load_model(write_gguf(tmp_path / "m.gguf", "llama", model, kind)).params

    def expected(*shape):
        stored = stored_bytes(np.zeros(shape, np.float32), kind)
        return gguf.quants.dequantize(stored, kind)

    assert np.isfinite(expected(512, 256)).all() and np.ptp(expected(512, 256)) > 0
    mlp = params["layers"]["mlp"]
    for layer in range(2):
        np.testing.assert_array_equal(mlp["up_proj"]["kernel"][layer], expected(512, 256).T)
        np.testing.assert_array_equal(mlp["down_proj"]["kernel"][layer], expected(256, 512).T)
    np.testing.assert_array_equal(params["embed_tokens"]["embedding"], expected(VOCAB, 256))


def test_llama3_rope_factors_are_read_from_their_tensor(tmp_path):
    model = torch_model("llama", 3, PLAIN | {"rope_parameters": LLAMA3_ROPE})
    plain = torch_model("llama", 3, PLAIN | {"rope_parameters": {"rope_type": "default"}})
    scaled = model.model.rotary_emb.inv_freq.numpy()
    base = 1 / 500000.0 ** (np.arange(0, 6, 2) / 6)
    path = tmp_path / "m.gguf"

    def factors(writer):
        writer.add_rope_freq_base(500000.0)
        writer.add_tensor("rope_freqs.weight", (base / scaled).astype(np.float32))

    write_gguf(path, "llama", plain, more=factors)
    check("llama", path, model, 3e-5)


def test_linear_rope_scaling_and_gemma3s_windows_are_read(tmp_path):
    linear = PLAIN | {"rope_parameters": LINEAR_ROPE}
    scaled = torch_model("llama", 4, linear)

    def scaling(writer):
        writer.add_rope_freq_base(LINEAR_ROPE["rope_theta"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(LINEAR_ROPE["factor"])

    path = write_gguf(tmp_path / "linear.gguf", "llama", scaled, more=scaling)
    check("llama", path, scaled, 3e-5)
    windows = {"sliding_window": 5, "sliding_window_pattern": 2, "query_pre_attn_scalar": 6}
    gemma = torch_model("gemma3_text", 4, PLAIN | windows | {"final_logit_softcapping": 3.0})

    def pattern(writer):
        writer.add_sliding_window_pattern(2)
        writer.add_final_logit_softcapping(3.0)

    path = write_gguf(tmp_path / "gemma.gguf", "gemma3_text", gemma, more=pattern)
    check("gemma3_text", path, gemma, 5e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (lambda w: w.add_rope_dimension_count(4), "rope.dimension_count = 4 is not .* only 6"),
        (lambda w: w.add_value_length(8), "attention.value_length = 8 is not supported, only 6"),
        (lambda w: w.add_causal_attention(False), "attention.causal = False is not supported"),
        (lambda w: w.add_expert_count(8), "llama.expert_count = 8 is not supported, only 0"),
        (lambda w: w.add_sliding_window(5), "llama.attention.sliding_window = 5 is not known"),
        (lambda w: w.add_logit_scale(0.5), "llama.logit_scale = 0.5 is not known here"),
        (
            lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN),
            "rope scaling 'yarn' is not supported, only linear",
        ),
        (lambda w: w.add_uint16("split.count", 3), "m.gguf is one of 3 parts of a model; join"),
        (lambda w: w.add_block_count(0), "num_hidden_layers = 0 is no positive whole number"),
        (
            lambda w: w.add_string("llama.embedding_length", "wide"),
            "m.gguf is damaged: a value is missing or",
        ),
    ],
)
def test_keys_that_would_be_overlooked_are_refused(tmp_path, more, message):
    model = torch_model("llama", 1, TYPICAL["llama"])
    path = write_gguf(tmp_path / "m.gguf", "llama", model, more=more)
    with pytest.raises(UserError, match=message):
        load_model(path)


def test_a_kind_that_the_gguf_package_cannot_read_is_named(tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_K
    wide = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "num_hidden_layers": 1}
    path = write_gguf(tmp_path / "m.gguf", "llama", torch_model("llama", 2, PLAIN | wide), kind)
    with pytest.raises(UserError, match=r"token_embd.weight is stored as Q8_K, which the gguf"):
        load_model(path)


def test_foreign_and_damaged_files_are_refused(tmp_path):
    other = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.write_tensors_to_file()
    other.close()
    with pytest.raises(UserError, match="architecture 'mamba' is not supported"):
        load_model(tmp_path / "other.gguf")
    model = torch_model("llama", 1, TYPICAL["llama"])
    whole = write_gguf(tmp_path / "m.gguf", "llama", model)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match="is no whole GGUF file"):
        load_model(whole)
