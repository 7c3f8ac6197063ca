"""Operations that a policy of rematerialisation asks for beyond those that a step needs.

They are what has to be computed once more, once: the products whose results the backward pass
reads and does not find stored. A layer's last projection is not of them, since nothing reads its
output there, but the narrow half of its update is. With the norms of ``qk_norm`` and
``sandwich_norms`` the outputs of some projections are read that otherwise are not.
"""

from collections.abc import Mapping

from lorafuse_jax.models.config import DecoderConfig
from lorafuse_jax.models.decoder import Remat

LAST = "mlp/down_proj"


def recomputed_flops(
    config: DecoderConfig,
    policy: Remat,
    kernels: Mapping[str, tuple[int, int, int]],
    ranks: Mapping[str, int],
    *,
    tokens: int,
    pairs: int,
) -> float:
    """Of one step of all seeds.

    Args:
        config: of the model.
        policy: what is stored.
        kernels: module path -> (L, I, O) of every projection of the layers.
        ranks: module path -> rank of its update, of those that have one.
        tokens: that are computed.
        pairs: of a token and one that is multiplied with it in attention, in each layer.
    """
    if policy == "nothing":
        return 0.0
    modules, halves = _again(config, policy, kernels)
    linear = 0
    for path in modules:
        layers, fan_in, fan_out = kernels[path]
        linear += 2 * layers * (fan_in * fan_out + ranks.get(path, 0) * fan_out)
    for path in halves:
        layers, fan_in, _ = kernels[path]
        linear += 2 * layers * ranks.get(path, 0) * fan_in
    products = 2 if policy == "layers" else 1
    attention = products * 2 * config.num_heads * config.head_dim * config.num_layers
    return float(tokens * linear + pairs * attention)


def _again(
    config: DecoderConfig, policy: Remat, kernels: Mapping[str, tuple[int, int, int]]
) -> tuple[list[str], list[str]]:
    """Modules whose output is computed again, and those whose update's narrow half is."""
    ends = [path for path in kernels if path.endswith(LAST)]
    if policy == "layers":
        read = [path for path in kernels if config.sandwich_norms or path not in ends]
        return read, list(kernels)
    read = []
    if config.qk_norm:
        read += [path for path in kernels if path.endswith(("q_proj", "k_proj"))]
    if config.sandwich_norms:
        read += [path for path in kernels if path.endswith("o_proj")] + ends
    return read, []
