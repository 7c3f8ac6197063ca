"""``adapter_config.json``: what PEFT wrote there, and what we can and cannot read."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorafuse_jax.formats.folder import read_json
from lorafuse_jax.types import UserError

CONFIG_FILE = "adapter_config.json"

_MUST_BE_OFF = (
    "use_dora",
    "bias",
    "lora_bias",
    "modules_to_save",
    "fan_in_fan_out",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "arrow_config",
)
_OFF = (None, False, "none", [], {})
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
        targets: target_modules.
    """

    base_model: str
    rank: int
    alpha: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    use_rslora: bool
    targets: tuple[str, ...]

    def rank_of(self, name: str) -> int:
        """The rank of a module, ``model.layers.0.self_attn.q_proj``."""
        return _by_pattern(self.rank_pattern, name, self.rank)

    def scale_of(self, name: str) -> float:
        """What PEFT multiplies B A by."""
        rank, alpha = self.rank_of(name), _by_pattern(self.alpha_pattern, name, self.alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_peft_config(folder: Path) -> PeftConfig:
    """The configuration of a PEFT adapter folder.

    Raises:
        UserError: it is missing or damaged, or asks for something a low-rank update cannot hold.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a PEFT adapter with {CONFIG_FILE}")
    config = read_json(path)
    _check_plain_lora(config, path)
    targets = config.get("target_modules") or ()
    try:
        return PeftConfig(
            base_model=config.get("base_model_name_or_path") or "",
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            rank_pattern={k: int(r) for k, r in (config.get("rank_pattern") or {}).items()},
            alpha_pattern={k: float(a) for k, a in (config.get("alpha_pattern") or {}).items()},
            use_rslora=bool(config.get("use_rslora")),
            targets=(targets,) if isinstance(targets, str) else tuple(targets),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {error!r}; expected r, lora_alpha as PEFT writes them") from None


def peft_config_json(
    base_model: str, ranks: dict[str, int], targets: tuple[str, ...]
) -> dict[str, Any]:
    """What to write: lora_alpha = r everywhere, so that PEFT's scale is 1.

    Args:
        base_model: name or path.
        ranks: of each module, ``self_attn.q_proj`` -> rank.
        targets: names of the adapted projections.
    """
    rank = max(ranks.values())
    others = {re.escape(name): r for name, r in sorted(ranks.items()) if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }


def _check_plain_lora(config: dict[str, Any], path: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UserError(f"{path}: peft_type is {kind!r}; only LORA can be read")
    for name in _MUST_BE_OFF:
        if config.get(name) not in _OFF:
            raise UserError(
                f"{path}: {name} = {config[name]!r} is not supported: it is more than a low-rank "
                "update of linear layers; merge that adapter with PEFT, or train it without"
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
