"""Published data sets by name: a small file each says what its rows are and mean."""

from lorafuse_jax.data.recipes import (
    alpaca,
    codefeedback,
    gsm8k,
    magicoder,
    math,
    metamathqa,
    tulu,
)
from lorafuse_jax.data.recipes.recipe import Recipe, load_recipe

RECIPES: dict[str, Recipe] = {
    "metamathqa": metamathqa.RECIPE,
    "gsm8k": gsm8k.RECIPE,
    "math": math.RECIPE,
    "codefeedback": codefeedback.RECIPE,
    "magicoder-oss": magicoder.OSS_INSTRUCT,
    "magicoder-evol": magicoder.EVOL_INSTRUCT,
    "tulu-v2": tulu.RECIPE,
    "alpaca": alpaca.RECIPE,
}

__all__ = ["RECIPES", "Recipe", "load_recipe"]
