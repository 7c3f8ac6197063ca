"""Full fine-tuning: of the targets' whole kernels, or of every parameter."""

from pathlib import Path

import jax
import jax.numpy as jnp

from lorafuse_jax.adapted import batch_log_probs, parameter_log_probs
from lorafuse_jax.formats.dense import save_dense
from lorafuse_jax.formats.folder import new_folder, read_json, write_json
from lorafuse_jax.formats.hf_model import MODEL_FILE
from lorafuse_jax.formats.tensor_file import write_tensors
from lorafuse_jax.lora import adaptable_modules, match_rules
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.weights import checkpoint_tensors
from lorafuse_jax.names import for_files
from lorafuse_jax.types import DenseDelta, UserError
from lorafuse_jax.workflow.export import ABOUT_FILE, copy_rest
from lorafuse_jax.workflow.method import Method, where_it_belongs
from lorafuse_jax.workflow.train_config import TrainConfig

CONFIG_FILE = "config.json"


def dense_method(config: TrainConfig, model: Model) -> Method:
    """Whole kernels of the targets, as what is added to the base's; they start at zero.

    Trained by Adam without weight decay, a kernel and its difference from the base move alike. The
    base stays shared and is read once; the price is a second product with every kernel.
    """
    params, rules = model.params, config.rules[0]
    shapes = adaptable_modules(params)
    modules = match_rules(shapes, rules)

    def fresh():
        seeds = len(config.seeds)
        return {module: DenseDelta(jnp.zeros((seeds, *shapes[module]))) for module in modules}

    def log_probs(adapter, params, batch, member):
        return batch_log_probs(
            model.config, params, adapter, batch, rules=rules, remat=config.remat
        )

    def save(adapter, number, folder, provenance):
        adapter = for_files(adapter, model)
        about = {**provenance, "carried": where_it_belongs(adapter, model)}
        save_dense(folder, adapter, base_model=str(model.path), provenance=about)

    return Method(params, fresh, None, log_probs, save)


def full_method(config: TrainConfig, model: Model) -> Method:
    """Every parameter, embeddings, norms and head included: each seed has its own copy of all.

    They are kept in float32 and computed with in the base's dtype. A seed is written as a
    checkpoint in float32, with the base's configuration and tokenizer.

    Raises:
        UserError: the base is no folder, whose configuration a checkpoint could take over.
    """
    base = model.path / CONFIG_FILE
    if not base.is_file():
        raise UserError(
            f"{model.path} has no {CONFIG_FILE}, which the checkpoints of --method full take over: "
            "use the folder of the original model"
        )

    def fresh():
        def copies(leaf):
            return jnp.tile(leaf.astype(jnp.float32), (len(config.seeds),) + (1,) * leaf.ndim)

        return jax.tree.map(copies, model.params)

    def log_probs(trained, params, batch, member):
        return parameter_log_probs(model.config, trained, params, batch, remat=config.remat)

    def save(trained, number, folder, provenance):
        with new_folder(folder) as whole:
            tensors = dict(checkpoint_tensors(trained, model.family.WEIGHTS))
            write_tensors(whole / MODEL_FILE, tensors)
            copy_rest(model.path, whole)
            described = read_json(base)
            described.pop("dtype", None)
            write_json(whole / CONFIG_FILE, described | {"torch_dtype": "float32"})
            write_json(whole / ABOUT_FILE, {"base": str(model.path), "provenance": provenance})

    return Method(model.params, fresh, None, log_probs, save)


def is_whole_model(folder: Path) -> bool:
    """Whether a seed's folder is a checkpoint rather than an adapter."""
    return (folder / CONFIG_FILE).is_file()
