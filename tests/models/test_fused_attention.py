"""Fused kernels give what ``attend`` does, with every mapped axis in their batch.

No accelerator is needed: programs are lowered for one that is not there, splash attention is
interpreted, and cuDNN is only said to be present, which is what tracing its calls asks for.
"""

import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from lorafuse_jax.models import fused_attention
from lorafuse_jax.models.attention import attend
from lorafuse_jax.models.fused_attention import Kind, attend_whole

SEEDS, PARTS, ROWS = 3, 2, 2
HEADS, KV_HEADS = 4, 2
BFLOAT16 = 2e-2  # inputs, weights and results are rounded to 2**-9


def inputs(*lead, time=128, head_dim=64):
    """Queries, keys, values [..., B, ...], and the segments of packed rows, the last padding."""
    rng = np.random.default_rng(5)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=(*lead, ROWS, *shape)), jnp.bfloat16)

    segments = np.sort(rng.integers(1, 4, (*lead, ROWS, time)))
    segments[..., -time // 8 :] = 0
    of_keys = (KV_HEADS, time, head_dim)
    return draw(time, HEADS, head_dim), draw(*of_keys), draw(*of_keys), jnp.asarray(segments)


def visible(segments):
    causal = jnp.tril(jnp.ones((segments.shape[-1],) * 2, bool))
    return causal & (segments[..., :, None] == segments[..., None, :])


def plain(queries, keys, values, segments, kind):
    return attend(queries, keys, values, visible(segments), *kind)


def fused(queries, keys, values, segments, kind):
    return attend_whole(queries, keys, values, visible(segments), segments, kind)


def with_gradients(function, kind, axes=(), shared=()):
    """The result and the gradients of a sum that every entry matters for, under ``vmap``."""

    def run(queries, keys, values, segments):
        def summed(*qkv):
            result = function(*qkv, segments, kind).astype(jnp.float32)
            return jnp.sum(jnp.sin(result)), result

        gradients, result = jax.grad(summed, argnums=(0, 1, 2), has_aux=True)(queries, keys, values)
        return result, *gradients

    for axis in axes:
        in_axes = [None if number in shared else 0 for number in range(4)]
        run = jax.vmap(run, in_axes=in_axes, spmd_axis_name=axis)
    return jax.jit(run)


def assert_close(actual, expected, tolerance=BFLOAT16):
    for one, other in zip(actual, expected, strict=True):
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        assert np.abs(one - other).max() < tolerance * np.abs(other).max()


@pytest.fixture
def by_xla(monkeypatch):
    """XLA's attention in the place of a kernel, on CPU; gives the shapes it was called with."""
    called = []

    def kernel(kind, queries, keys, values, visible, segments):
        called.append((queries.shape, visible.shape))
        turned = (x.swapaxes(1, 2) for x in (keys, values))
        return jax.nn.dot_product_attention(
            queries, *turned, mask=visible[:, None], scale=kind.scale, implementation="xla"
        )

    monkeypatch.setattr(fused_attention, "KERNELS", {"cpu": (kernel, lambda *_: True)})
    return called


@pytest.fixture
def with_cudnn(monkeypatch):
    """As on a machine with cuDNN: its calls can be traced."""
    version = SimpleNamespace(cudnn_get_version=lambda: 91002)
    monkeypatch.setattr(cudnn, "cuda_versions", version)
    monkeypatch.setitem(fused_attention.KERNELS, "cuda", fused_attention.CUDNN)
    fused_attention.has_cudnn.cache_clear()
    yield
    fused_attention.has_cudnn.cache_clear()


@pytest.mark.parametrize("shared", [(), (3,), (1, 2)], ids=["none", "mask", "keys and values"])
def test_mapped_axes_are_folded_into_the_batch(shared, by_xla):
    kind = Kind(0.125, None)
    arrays = list(inputs(SEEDS, PARTS))
    for number in shared:
        arrays[number] = arrays[number][0, 0]
    axes = (None, None)
    found = with_gradients(fused, kind, axes, shared)(*arrays)
    assert (SEEDS * PARTS * ROWS, 128, HEADS, 64) in {queries for queries, _ in by_xla}
    assert all(of_queries[0] == of_mask[0] for of_queries, of_mask in by_xla)
    assert_close(found, with_gradients(plain, kind, axes, shared)(*arrays))


@pytest.mark.parametrize(
    ("time", "head_dim", "softcap"), [(128, 128, None), (200, 64, None), (256, 64, 5.0)]
)
def test_splash_attention_gives_what_ours_does(time, head_dim, softcap, monkeypatch):
    kernel = partial(fused_attention._by_splash, interpret=True)
    monkeypatch.setattr(fused_attention, "KERNELS", {"cpu": (kernel, lambda *_: True)})
    kind = Kind(head_dim**-0.5, softcap)
    arrays = inputs(2, time=time, head_dim=head_dim)
    found = with_gradients(fused, kind, (None,))(*arrays)
    assert_close(found, with_gradients(plain, kind, (None,))(*arrays))


def lowered(platform, kind, shared=(), **changes):
    arrays = list(inputs(SEEDS, PARTS, **changes))
    for number in shared:
        arrays[number] = arrays[number][0, 0]
    run = with_gradients(fused, kind, ("seed", "data"), shared)
    allowed = ["__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"]
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in allowed]
    return jax.export.export(run, platforms=[platform], disabled_checks=checks)(*arrays)


@pytest.mark.parametrize("shared", [(), (3,)], ids=["own mask", "shared mask"])
def test_for_cuda_cudnn_gets_all_seeds_as_one_batch(shared, with_cudnn):
    text = lowered("cuda", Kind(0.125, None), shared).mlir_module()
    calls = re.findall(r"custom_call @(__cudnn\$\w+)\(.*?: \((.*?)\) ->", text)
    assert {name for name, _ in calls} == {
        "__cudnn$fmhaScaleBiasSoftmax",
        "__cudnn$fmhaScaleBiasSoftmaxBackward",
    }
    for _, operands in calls:  # the mask, the fourth of them, is not left behind
        sizes = re.findall(r"tensor<(\d+)x", operands)
        assert len(sizes) >= 4 and set(sizes) == {str(SEEDS * PARTS * ROWS)}


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_for_tpu_splash_attention_gets_all_seeds_as_one_batch(softcap):
    text = lowered("tpu", Kind(0.125, softcap)).mlir_module()
    calls = re.findall(r"custom_call @tpu_custom_call\(.*?-> \(?tensor<(\d+)x", text)
    assert calls and set(calls) == {str(SEEDS * PARTS * ROWS)}


@pytest.mark.parametrize("platform", ["cpu", "rocm", "cuda"])
def test_elsewhere_attention_is_our_own(platform):
    assert "custom_call" not in lowered(platform, Kind(0.125, None)).mlir_module()


@pytest.mark.parametrize("changes", [{"time": 120}, {"head_dim": 40}])
def test_what_the_kernel_is_not_for_is_our_own(changes, with_cudnn):
    for platform in ("tpu", "cuda"):
        text = lowered(platform, Kind(0.125, None), **changes).mlir_module()
        assert "custom_call" not in text


def test_on_a_mesh_of_several_devices_attention_is_our_own():
    mesh = jax.sharding.AbstractMesh((1, 2, 1), ("seed", "data", "model"))
    with jax.sharding.use_abstract_mesh(mesh):
        traced = str(jax.make_jaxpr(partial(fused, kind=Kind(0.125, None)))(*inputs()))
    assert "platform_index" not in traced
    assert "platform_index" in str(
        jax.make_jaxpr(partial(fused, kind=Kind(0.125, None)))(*inputs())
    )
