"""Low-rank updates: LoRA from any initialisation, and DoRA."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.adapter import stack
from lorafuse_jax.dora import with_magnitudes
from lorafuse_jax.ends import end_modules
from lorafuse_jax.formats.dora import save_dora
from lorafuse_jax.lora import adaptable_modules, init_adapter, match_rules, scaled, scales_of
from lorafuse_jax.lora_init import relative_to_original, split_base
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_files
from lorafuse_jax.parallel import hosts
from lorafuse_jax.training.step import seed_keys
from lorafuse_jax.types import Adapter, UserError
from lorafuse_jax.workflow.method import Method, save_update, where_it_belongs
from lorafuse_jax.workflow.train_config import TrainConfig

INIT_STREAM = 1


def lora_method(config: TrainConfig, model: Model) -> Method:
    """LoRA, each seed from its own random start or all from the same part of the base.

    Raises:
        UserError: a rule matches nothing; or the start is a part of the base, and that is quantised
            or the seeds' ranks or scales differ.
    """
    params, rules = model.params, config.rules
    modules = match_rules(adaptable_modules(params) | end_modules(params), rules[0])
    each = [scales_of(modules, own) for own in rules]
    scale = {module: jnp.array([own[module] for own in each]) for module in modules}
    start: Adapter | None = None
    if config.init != "default":
        _check_alike(config)
        params, start = split_base(params, rules[0], config.init)
        # The host that writes adapters needs it whole.
        start = jax.tree.map(jnp.asarray, hosts.fetch(start))

    def fresh():
        if start is not None:
            return stack([start] * len(rules))
        return random_start(config, model)

    def log_probs(adapter, params, batch, member):
        return batch_log_probs(
            model.config,
            params,
            adapter,
            batch,
            rules=rules[0],
            scales=member.scale,
            dropout_key=member.dropout_key,
            remat=config.remat,
        )

    def update(adapter, number):
        adapter = scaled(adapter, rules[number])
        if start is None:
            return adapter
        return relative_to_original(adapter, scaled(start, rules[number]))

    def save(adapter, number, folder, provenance):
        save_update(folder, update(adapter, number), model, provenance)

    return Method(params, fresh, scale, log_probs, save, update)


def dora_method(config: TrainConfig, model: Model) -> Method:
    """DoRA: as LoRA, with a trained norm of every column of the adapted kernels.

    Raises:
        UserError: a rule matches nothing.
    """
    lora = lora_method(config, model)

    def fresh():
        return with_magnitudes(random_start(config, model), model.params)

    def save(adapter, number, folder, provenance):
        adapter = for_files(scaled(adapter, config.rules[number]), model)
        save_dora(
            folder,
            adapter,
            base_model=str(model.path),
            provenance=dict(provenance),
            carried=where_it_belongs(adapter, model),
        )

    return replace(lora, fresh=fresh, save=save, update=None)


def random_start(config: TrainConfig, model: Model) -> Adapter:
    """Every seed's fresh adapter, stacked.

    Each is drawn at its own rank and padded after, so that a seed starts as it would alone.
    """
    keys = seed_keys(config.stream_seeds("init"), INIT_STREAM)
    pairs = zip(keys, config.rules, strict=True)
    return stack([init_adapter(key, model.params, own) for key, own in pairs])


def _check_alike(config: TrainConfig) -> None:
    if len(set(config.rules)) > 1:
        raise UserError(
            f"--init {config.init} takes a part of the base that all seeds share, so that they "
            "need one rank and one alpha; give one value of each"
        )
