"""How fast the machine multiplies matrices at best: published where known, or else measured."""

import time
from functools import cache

import jax
import numpy as np

PUBLISHED = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA L4": 121e12,
}
"""``device_kind`` -> operations a second in bfloat16, not sparse, from the makers' data sheets."""

SIZE = 1024
MEASURE_SECONDS = 0.4


def matmul_peak(device: jax.Device | None = None) -> float:
    """Operations a second of the device's matrix units.

    Where it is not published (CPUs), the best of the square float32 products of 0.4 seconds: less
    than a second with the compilation.
    """
    device = device or jax.local_devices()[0]
    if device.device_kind in PUBLISHED:
        return PUBLISHED[device.device_kind]
    return _measure(device)


@cache
def _measure(device: jax.Device) -> float:
    left = jax.device_put(np.full((SIZE, SIZE), 1e-3, np.float32), device)
    product = jax.jit(lambda x: x @ x)
    product(left).block_until_ready()
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < MEASURE_SECONDS:
        start = time.perf_counter()
        product(left).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * SIZE**3 / best
