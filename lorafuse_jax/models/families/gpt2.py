"""GPT-2: LayerNorm, learned positions, biases everywhere, one projection for q, k and v.

Its tensors have names of their own, and its linear layers are stored [I, O] as ours are.
"""

from typing import Any

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.families import keys, standard
from lorafuse_jax.models.weights import WeightRule

MODEL_TYPE = "gpt2"
SIZES = ("vocab_size", "n_embd", "n_layer", "n_head")
HANDLED = {
    *SIZES,
    "model_type",
    "n_positions",
    "n_inner",
    "activation_function",
    "layer_norm_epsilon",
    "tie_word_embeddings",
}
REQUIRED = keys.REQUIRED | {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}
IGNORED = keys.IGNORED | {
    "n_ctx",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "reorder_and_upcast_attn",
    "summary_type",
    "summary_use_proj",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_first_dropout",
}

MODULES = {
    "attn.c_attn": "self_attn/qkv_proj",
    "attn.c_proj": "self_attn/o_proj",
    "mlp.c_fc": "mlp/up_proj",
    "mlp.c_proj": "mlp/down_proj",
}
NORMS = {"ln_1": "layers/input_layernorm", "ln_2": "layers/post_attention_layernorm"}

WEIGHTS = (
    WeightRule("transformer.wte.weight", "embed_tokens/embedding"),
    WeightRule("transformer.wpe.weight", "embed_positions/embedding"),
    WeightRule("lm_head.weight", "lm_head/kernel", transpose=True),
    WeightRule("transformer.ln_f.weight", "norm/scale"),
    WeightRule("transformer.ln_f.bias", "norm/bias"),
    *(
        WeightRule(f"transformer.h.{{layer}}.{theirs}.{kind}", f"{ours}/{leaf}")
        for theirs, ours in NORMS.items()
        for kind, leaf in (("weight", "scale"), ("bias", "bias"))
    ),
    *(
        WeightRule(f"transformer.h.{{layer}}.{theirs}.{kind}", f"layers/{ours}/{leaf}")
        for theirs, ours in MODULES.items()
        for kind, leaf in (("weight", "kernel"), ("bias", "bias"))
    ),
)


def config_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """The decoder that a ``config.json`` describes.

    Raises:
        UserError: a key that is missing, not known, or of a value that this decoder does not have.
    """
    keys.check_keys(config, HANDLED, REQUIRED, IGNORED)
    keys.check_sizes(config, needed=SIZES, optional=("n_inner", "n_positions"))
    width, heads = config["n_embd"], config["n_head"]
    decoder = DecoderConfig(
        vocab_size=config["vocab_size"],
        model_dim=width,
        num_layers=config["n_layer"],
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        ffn_dim=config.get("n_inner") or 4 * width,
        context_length=config.get("n_positions", 1024),
        norm="layer",
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        rope=None,
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        gated_mlp=False,
        activation=standard.activation(config, "activation_function", "gelu_new"),
        tie_embeddings=config.get("tie_word_embeddings", True),
    )
    return standard.checked(decoder)
