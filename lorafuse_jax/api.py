"""What ``import lorafuse_jax`` offers; the package reads it when it is first asked for a name."""

from lorafuse_jax.adapted import forward
from lorafuse_jax.adapter import compress, cosine, norm, stack, take, to_delta
from lorafuse_jax.adapter_merge import merge_into
from lorafuse_jax.assets import fetch
from lorafuse_jax.formats import load_adapter, save_adapter
from lorafuse_jax.fusion import OPERATORS, compose, get_operator
from lorafuse_jax.lora import LoraRule, init_adapter
from lorafuse_jax.models.hub import Model, load_model
from lorafuse_jax.text_generation import generate
from lorafuse_jax.types import Adapter, DenseDelta, LoraPair, Params, UserError
