"""Text in, text out: many adapters of one model answer the same prompts together."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial

import numpy as np

from lorafuse_jax.adapted import extend_rows, row_logits, row_scores
from lorafuse_jax.bank import make_bank
from lorafuse_jax.generation.request import Engine, Request, samples
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.generation.stops import cut, ends_at_stop_strings
from lorafuse_jax.lora import check_fits
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.types import Adapter, UserError

ROW_BUDGET = 192
"""Rows of one batch: enough for matrix products at full speed, few enough for a laptop's memory."""


def make_engine(model: Model, stop_tokens: Sequence[str] = ()) -> Engine:
    """The model as the pure functions that decoding needs; make it once, programs are kept by it.

    Args:
        model: gives configuration and stop tokens; parameters are passed to ``serve``.
        stop_tokens: further tokens that end an answer, by name.

    Raises:
        UserError: the tokenizer has no such token.
    """
    config = model.config
    return Engine(
        extend=partial(extend_rows, config),
        logits=partial(row_logits, config),
        score=partial(row_scores, config),
        stop_tokens=tuple(
            dict.fromkeys([*model.stop_tokens, *(_token_id(model, name) for name in stop_tokens)])
        ),
        context_length=config.context_length,
    )


def generate(
    model: Model,
    adapters: Sequence[Adapter],
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    num_samples: int = 1,
    seed: int = 0,
    stop: Sequence[str] = (),
    stop_tokens: Sequence[str] = (),
    ensemble: bool = False,
    lanes: int | None = None,
) -> list[list[list[str]]]:
    """Every adapter's answers to every prompt, decoded in one batch over one base.

    Prompts are taken as they are: put them into a chat template first, if the model has one. The
    begin token is added where the tokenizer adds it.

    Args:
        model: the base.
        adapters: of any kind and rank, leaves [L, ...]; ``{}`` is the base model itself.
        prompts: texts.
        max_new_tokens: where an answer that does not end is cut.
        temperature: 0 is greedy.
        top_p: nucleus sampling, in (0, 1].
        min_p: tokens below this share of the largest probability are left out, in [0, 1).
        num_samples: answers a prompt, each with a seed of its own.
        seed: of the samples; a sample depends on it, the prompt's number and the sample's, and not
            on what else is in the batch.
        stop: texts that end an answer, and are not part of it.
        stop_tokens: tokens that do, by name, beside the model's own.
        ensemble: the adapters answer together, by the mean of their logits.
        lanes: rows of each adapter that are decoded at once; fewer take less memory.

    Returns:
        [adapter][prompt][sample]; one "adapter" for an ensemble.

    Raises:
        UserError: an adapter that does not fit, a prompt that is too long, a setting out of range,
            a token that is not known, or more memory is needed than there is.
    """
    if num_samples < 1:
        raise UserError(f"num_samples {num_samples} is below 1")
    fitted = [for_model(adapter, model) for adapter in adapters]
    for adapter in fitted:
        check_fits(adapter, model.params)
    queue = []
    for number, text in enumerate(prompts):
        ids = np.array(model.tokenizer(text)["input_ids"], np.int32)
        asked = Request(
            prompt=ids,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            min_p=min_p,
            seed=seed + number,
            stop_strings=tuple(stop),
        )
        queue += samples(asked, num_samples)
    decode = partial(model.tokenizer.decode, skip_special_tokens=True)
    answers = serve(
        make_engine(model, stop_tokens),
        model.params,
        make_bank(fitted),
        [queue] * len(fitted),
        lanes=lanes or max(1, ROW_BUDGET // max(1, len(fitted))),
        ensemble=ensemble,
        ended=ends_at_stop_strings(decode) if stop else None,
    )
    members = 1 if ensemble else len(fitted)
    texts = [[[""] * num_samples for _ in prompts] for _ in range(members)]
    for one in answers:
        prompt, sample = divmod(one.request, num_samples)
        texts[one.member][prompt][sample] = cut(decode(one.tokens), stop)
    return texts


def _token_id(model: Model, name: str) -> int:
    vocabulary = model.tokenizer.get_vocab()
    if name not in vocabulary:
        near = get_close_matches(name, model.tokenizer.all_special_tokens, n=3, cutoff=0.3)
        raise UserError(
            f"the tokenizer has no token {name!r}"
            + (f"; near: {', '.join(near)}" if near else "")
            + "; a text of several tokens is a stop string, not a stop token"
        )
    return vocabulary[name]
