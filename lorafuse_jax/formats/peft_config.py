"""``adapter_config.json``: what PEFT wrote there, and what we can and cannot read."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.formats.targets import SELECTING
from lorafuse_jax.types import UserError

CONFIG_FILE = "adapter_config.json"

PROVENANCE_KEY = "lorafuse"
"""Under ``auto_mapping``, which PEFT keeps as it is; it warns of keys that it does not know."""

_MUST_BE_OFF = {
    "use_dora": "DoRA also rescales every column of the base weights (within the run that trained "
    "it, lorafuse fuse and evaluate know those)",
    "bias": "biases were trained too",
    "lora_bias": "biases were trained too",
    "modules_to_save": "whole modules were trained too",
    "layer_replication": "layers of the base are repeated",
    "trainable_token_indices": "embeddings were trained too",
    "target_parameters": "it adapts parameters that are not linear layers",
    "alora_invocation_tokens": "it is switched on by tokens (aLoRA)",
    "use_qalora": "its A works on pooled inputs (QA-LoRA)",
    "use_bdlora": "its factors are block-diagonal (BD-LoRA)",
    "kasa_config": "KaSA has a diagonal between A and B",
    "monteclora_config": "MonteCLoRA draws its weights",
    "velora_config": "VeLoRA compresses activations",
    "arrow_config": "Arrow routes between adapters",
    "megatron_config": "its layers are split by Megatron",
}
_CARRIED = (*SELECTING, "fan_in_fan_out", "task_type", "auto_mapping")
"""What says where an adapter belongs and goes into the configuration of what is made of it."""

_WITHOUT_EFFECT = {
    "peft_type",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "init_lora_weights",
    "rank_pattern",
    "alpha_pattern",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "runtime_config",
    "ensure_weight_tying",
}
"""Read here, or of no consequence for a trained adapter."""

_OFF = (None, False, "none", "", [], {}, ())
_INITS_THAT_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class PeftConfig:
    """The part of a LoraConfig that decides what the tensors mean.

    Attributes:
        base_model: name or path of the model it was trained on; may be empty.
        rank: r, unless ``rank_pattern`` says otherwise.
        alpha: lora_alpha, unless ``alpha_pattern`` says otherwise.
        rank_pattern: regex on module names -> rank.
        alpha_pattern: regex on module names -> alpha.
        use_rslora: the scale is alpha / sqrt(rank) instead of alpha / rank.
        carried: where it belongs: target_modules, fan_in_fan_out and the like, as they are.
        provenance: what our ``save_peft`` wrote about it; empty from another program.
    """

    base_model: str
    rank: int
    alpha: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    use_rslora: bool
    carried: dict[str, Any]
    provenance: dict[str, Any]

    def rank_of(self, name: str) -> int:
        """The rank of a module, ``model.layers.0.self_attn.q_proj``."""
        return _by_pattern(self.rank_pattern, name, self.rank)

    def scale_of(self, name: str) -> float:
        """What PEFT multiplies B A by."""
        rank, alpha = self.rank_of(name), _by_pattern(self.alpha_pattern, name, self.alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_peft_config(folder: Path, *, dora: bool = False) -> PeftConfig:
    """The configuration of a PEFT adapter folder; of a DoRA one only where ``dora`` says so.

    Raises:
        UserError: it is missing or damaged, or asks for something a low-rank update cannot hold.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a PEFT adapter with {CONFIG_FILE}")
    config = read_json(path)
    _check_plain_lora(config | {"use_dora": False} if dora else config, path)
    try:
        return PeftConfig(
            base_model=config.get("base_model_name_or_path") or "",
            rank=_rank(config["r"], "r"),
            alpha=_number(config["lora_alpha"], "lora_alpha"),
            rank_pattern=_patterns(config, "rank_pattern", _rank),
            alpha_pattern=_patterns(config, "alpha_pattern", _number),
            use_rslora=bool(config.get("use_rslora")),
            carried=_carried(config),
            provenance=(config.get("auto_mapping") or {}).get(PROVENANCE_KEY, {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, re.error) as error:
        raise UserError(f"{path}: {error!r}; expected r, lora_alpha as PEFT writes them") from None


def _carried(config: Mapping[str, Any]) -> dict[str, Any]:
    """That of ``_CARRIED`` which says something; an adapter without a task keeps to have none."""
    carried: dict[str, Any] = {"task_type": config.get("task_type")}
    for key in _CARRIED:
        value = config.get(key)
        if key == "auto_mapping":  # without a task, PEFT's AutoPeftModel finds the model by it
            value = {k: v for k, v in (value or {}).items() if k != PROVENANCE_KEY}
        if value is not None and value is not False and value not in ("", [], {}):
            carried[key] = value
    return carried


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(f"{what} = {value}")
    return float(value)


def _rank(value: Any, what: str) -> int:
    if _number(value, what) < 1 or int(value) != value:
        raise ValueError(f"{what} = {value} is no rank")
    return int(value)


def _patterns(config: Mapping[str, Any], key: str, number: Callable[[Any, str], Any]) -> dict:
    given = config.get(key) or {}
    return {re.compile(k).pattern: number(v, f"{key} of {k!r}") for k, v in given.items()}


def peft_config_json(
    base_model: str,
    rank: int,
    patterns: Mapping[str, int],
    carried: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """What to write: lora_alpha = r everywhere, so that PEFT's scale is 1.

    Args:
        base_model: name or path.
        rank: of all modules that no pattern matches.
        patterns: regular expression of module names -> rank; the first that matches holds.
        carried: of ``PeftConfig``; ``target_modules`` at least.
        provenance: where it comes from.
    """
    ours = {PROVENANCE_KEY: dict(provenance)} if provenance else {}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base_model or None,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": dict(patterns),
        "alpha_pattern": dict(patterns),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
        "task_type": "CAUSAL_LM",
        "fan_in_fan_out": False,
        **carried,
        "auto_mapping": {**carried.get("auto_mapping", {}), **ours} or None,
    }


def _check_plain_lora(config: dict[str, Any], path: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UserError(f"{path}: peft_type is {kind!r}; only LORA can be read")
    for name, reason in _MUST_BE_OFF.items():
        if config.get(name) not in _OFF:
            raise UserError(
                f"{path}: {name} = {config[name]!r} is not supported: {reason}, which a low-rank "
                "update cannot hold; merge that adapter with PEFT, or train it without"
            )
    known = {*_MUST_BE_OFF, *_CARRIED, *_WITHOUT_EFFECT}
    for name in sorted(config.keys() - known):
        if config[name] not in _OFF:
            raise UserError(
                f"{path}: the key {name!r} = {config[name]!r} is not known, and may change what "
                "the tensors mean; if it does not, remove it from the file"
            )
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_INITS_THAT_CHANGE_THE_BASE):
        raise UserError(
            f"{path}: init_lora_weights = {init!r} changed the base weights as well; convert it "
            "with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...) first"
        )


def _by_pattern(patterns: dict[str, Any], name: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches whole trailing parts of the name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
