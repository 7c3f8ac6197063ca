"""The adapted model as pure functions: logits, log-probabilities, and cached decoding."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from lorafuse_jax.bank import Bank, bank_head_hook, bank_hook
from lorafuse_jax.dora import dora_hook
from lorafuse_jax.gram import gram_hook
from lorafuse_jax.lora import (
    LoraRule,
    adapter_head_hook,
    adapter_hook,
    check_fits,
    scaled_by,
    scales_of,
)
from lorafuse_jax.mixture import Coefficients, mixture_head_hook, mixture_hook
from lorafuse_jax.models.cache import KeyValues, Past
from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.decoder import Remat, extend, hidden_states
from lorafuse_jax.models.head import (
    output_logits,
    score_together,
    score_tokens,
    token_log_probs,
)
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_files, for_model
from lorafuse_jax.types import ENDS, Adapter, DoraPair, Params, UserError


def forward(
    model: Model, params: Params, adapter: Adapter | None, tokens: Int[Array, "B T"]
) -> Float[Array, "B T V"]:
    """Logits of the adapted model: pure, so jit, vmap over a stacked adapter, or differentiate it.

    Args:
        model: gives the configuration; its own ``params`` are not used.
        params: base weights, for example ``model.params``.
        adapter: leaves [L, ...], or None for the base model.
        tokens: ids in [0, V); every row one sequence.

    Returns:
        Float32 logits.

    Raises:
        UserError: the adapter has a module that the model lacks, or of another shape.
    """
    hook = head = None
    if adapter:
        adapter = for_model(adapter, model)
        check_fits(adapter, params)
        hook, head = adapter_hook(adapter), adapter_head_hook(adapter)
    hidden = hidden_states(model.config, params, tokens, hook=hook)
    return output_logits(model.config, params, hidden, head)


def batch_log_probs(
    config: DecoderConfig,
    params: Params,
    adapter: dict[str, Any],
    batch: Any,
    *,
    rules: Sequence[LoraRule],
    scales: Mapping[str, float | Array] | None = None,
    dropout_key: Key[Array, ""] | None = None,
    remat: Remat = "projections",
) -> Float[Array, " M"]:
    """Log-probability of each loss token of a packed batch, under an adapter in training.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        adapter: without its scale; low-rank, dense or DoRA's, all of one kind.
        batch: ``tokens``, ``positions``, ``segments`` [B, T]; ``loss_index``, ``loss_target`` [M].
        rules: scale and dropout; none for an adapter that has its scale in it, or is dense.
        scales: by module, where a seed has its own instead of the rules'.
        dropout_key: None for no dropout.
        remat: what a backward pass computes again.
    """
    if scales is None and rules:
        scales = scales_of(adapter, rules)
    if scales is not None:
        adapter = scaled_by(adapter, scales)
    head = None
    if isinstance(next(iter(adapter.values())), DoraPair):
        hook = dora_hook(adapter, rules=rules, dropout_key=dropout_key)
    else:
        hook = adapter_hook(adapter, rules=rules, dropout_key=dropout_key)
        head = adapter_head_hook(adapter, rules=rules, dropout_key=dropout_key)
    hidden = _scored(config, params, batch, hook, remat)
    return token_log_probs(config, params, hidden, batch.loss_target, hook=head)


def mixture_log_probs(
    config: DecoderConfig, params: Params, joined: Adapter, coefficients: Coefficients, batch: Any
) -> Float[Array, " M"]:
    """As ``batch_log_probs``, under a weighted sum of members; vmap it over the coefficients.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        joined: the members, from ``mixture.side_by_side``, with their scale.
        coefficients: of each member, in each module and layer.
        batch: as for ``batch_log_probs``.
    """
    hidden = _scored(config, params, batch, mixture_hook(joined, coefficients), "nothing")
    head = mixture_head_hook(joined, coefficients)
    return token_log_probs(config, params, hidden, batch.loss_target, hook=head)


def parameter_log_probs(
    config: DecoderConfig,
    trained: Params,
    dtypes: Params,
    batch: Any,
    *,
    remat: Remat = "projections",
) -> Float[Array, " M"]:
    """As ``batch_log_probs``, of a model all of whose parameters are in training.

    Args:
        config: what the parameters were made for.
        trained: all parameters, in float32.
        dtypes: a tree like it, for the dtypes that are computed in.
        batch: as for ``batch_log_probs``.
        remat: what a backward pass computes again.
    """
    params = jax.tree.map(lambda own, like: own.astype(like.dtype), trained, dtypes)
    hidden = _scored(config, params, batch, None, remat)
    return token_log_probs(config, trained, hidden, batch.loss_target, train_head=True)


def _scored(
    config: DecoderConfig, params: Params, batch: Any, hook: Any, remat: Remat
) -> Float[Array, "M D"]:
    """Hidden states of the tokens that have a loss."""
    hidden = hidden_states(
        config,
        params,
        batch.tokens,
        positions=batch.positions,
        segments=batch.segments,
        hook=hook,
        remat=remat,
    )
    return hidden.reshape(-1, hidden.shape[-1])[batch.loss_index]


def extend_rows(
    config: DecoderConfig,
    params: Params,
    bank: Bank,
    tokens: Int[Array, "SB T"],
    positions: Int[Array, "SB T"],
    segments: Int[Array, "SB T"] | None,
    past: Sequence[Array] | None,
) -> tuple[Float[Array, "SB T D"], KeyValues]:
    """Read or continue rows of many members; gives hidden states, and what a cache keeps.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        bank: the members' adapters; empty if all of them are the base model.
        tokens: B rows of each member, member by member.
        positions: of the tokens.
        segments: which sequence each belongs to, 0 for padding; None is one a row.
        past: the fields of a ``Past``, or None.
    """
    hook = bank_hook(bank) if bank else None
    earlier = None if past is None else Past(*past)
    return extend(
        config, params, tokens, positions=positions, segments=segments, past=earlier, hook=hook
    )


def row_logits(
    config: DecoderConfig, params: Params, bank: Bank, hidden: Float[Array, "N D"]
) -> Float[Array, "N V"]:
    """Logits of rows of many members, as many of each, member by member.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        bank: the members' adapters.
        hidden: one token a row.
    """
    rows = hidden.shape[0]
    return output_logits(config, params, hidden, bank_head_hook(bank, jnp.arange(rows), rows))


def row_scores(
    config: DecoderConfig,
    params: Params,
    bank: Bank,
    hidden: Float[Array, "S T D"],
    places: Int[Array, " M"],
    targets: Int[Array, " M"],
    together: bool = False,
) -> tuple[Float[Array, " M"], Bool[Array, " M"]]:
    """``score_tokens`` of some tokens of one row a member, or ``score_together`` of all members.

    Args:
        config: what ``params`` was made for.
        params: base weights.
        bank: the members' adapters.
        hidden: hidden states of the rows.
        places: of the tokens in the flattened rows; in each row, if the members score together.
        targets: what each should predict.
        together: the members read the same, and score by the mean of their logits.
    """
    if together:
        rows = hidden.shape[0]
        row = jnp.tile(jnp.arange(rows), places.shape[0])
        each = hidden[:, places].swapaxes(0, 1)
        return score_together(config, params, each, targets, bank_head_hook(bank, row, rows))
    flat = hidden.reshape(-1, hidden.shape[-1])[places]
    head = bank_head_hook(bank, places // hidden.shape[1], hidden.shape[0])
    return score_tokens(config, params, flat, targets, head)


def input_grams(
    model: Model,
    adapter: Adapter,
    tokens: Int[Array, "B T"],
    counted: Bool[Array, "B T"] | None = None,
) -> dict[str, Float[Array, "L I I"]]:
    """``X^T X`` of the inputs X of every adapted projection, for ``regmean``.

    Stack those of all members on axis 0. A Gram matrix is I x I: that of a 7B model's widest
    projection takes 0.5 GB a layer.

    Args:
        model: configuration and base weights.
        adapter: the member, leaves [L, ...]; its modules are what is looked at.
        tokens: ids; every row one sequence.
        counted: False for tokens that are padding; all count by default.

    Raises:
        UserError: the adapter does not fit, or is not of the layers alone.
    """
    adapter = for_model(adapter, model)
    if ends := [module for module in ENDS if module in adapter]:
        raise UserError(
            f"{ends[0]} is adapted, and inputs are looked at in the layers alone: there is no "
            "regmean of an embedding or output head; leave them out of the members"
        )
    check_fits(adapter, model.params)
    rows = jnp.ones(tokens.shape, bool) if counted is None else counted
    layers = model.config.num_layers
    probes = {
        module: jnp.zeros((layers, update[0].shape[1], update[0].shape[1]))
        for module, update in adapter.items()
    }

    def run(probes: dict[str, Array]) -> Float[Array, ""]:
        hook = gram_hook(adapter, probes, rows)
        return hidden_states(model.config, model.params, tokens, hook=hook).sum()

    return for_files(jax.grad(run)(probes), model)
