"""What trains, decodes, scores and fuses lowers for every accelerator, with that one's own calls.

``jax.export`` lowers for platforms that are not there. It refuses calls without a guarantee of
stability, but would take a call to LAPACK for a GPU; so all calls are compared with a list.
"""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.models import attention
from lorafuse_jax.models.cache import LayerPast
from tests.lowering.programs import (
    ENGINE_PROGRAMS,
    SPECTRAL,
    TRAINING,
    WINDOWED,
    Program,
    decoding,
    fusion,
    heldout,
    scoring,
    train_step,
    trainer_for,
    with_long_rows,
)

PLATFORMS = ("cuda", "rocm", "tpu")
OWN_CALLS = {
    "cuda": r"cu_\w+|cusolver_\w+|cublas_\w+",
    "rocm": r"hip_\w+|hipsolver_\w+|hipblas_\w+",
    "tpu": r"Eigh|Qr|ProductOfElementaryHouseholderReflectors|LuDecomposition",
}
"""Of each platform's own libraries or compiler; there is no other way for work to leave XLA."""

every_dtype = pytest.mark.parametrize(
    ("dtype", "platforms"),
    [(jnp.bfloat16, PLATFORMS), (jnp.float32, ("tpu",))],
    ids=["bfloat16", "float32"],
)
"""Weights are bfloat16 on accelerators; float32 is asked for, and is no matter of the platform."""


def calls_in(program: Program, platform: str) -> set[str]:
    """What it calls when lowered for that platform."""
    exported = jax.export.export(program.fn, platforms=[platform])(*program.args)
    return set(re.findall(r"custom_call @([\w.$]+)", exported.mlir_module()))


def check_lowers(program: Program, platforms: tuple[str, ...] = PLATFORMS) -> None:
    """For each of the platforms, without a call that is not its own."""
    for platform in platforms:
        calls = calls_in(program, platform)
        foreign = {call for call in calls if not re.fullmatch(OWN_CALLS[platform], call)}
        assert not foreign, f"{platform}: {', '.join(sorted(foreign))}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model")


@pytest.mark.parametrize("name", TRAINING)
def test_train_step_lowers_for_every_accelerator(name, folder):
    check_lowers(train_step(trainer_for(name, jnp.bfloat16, folder)))


@pytest.mark.parametrize("name", ["lora", "dora", "dense", "full", "lora on int8", "lora on nf4"])
def test_train_step_in_float32_lowers_for_tpu(name, folder):
    check_lowers(train_step(trainer_for(name, jnp.float32, folder)), ("tpu",))


@every_dtype
@pytest.mark.parametrize("name", ["lora", "dora", "dense", "full"])
def test_heldout_loss_lowers_for_every_accelerator(name, dtype, platforms, folder):
    check_lowers(heldout(trainer_for(name, dtype, folder)), platforms)


def test_train_step_of_long_rows_has_splash_attention_on_tpu_alone(folder):
    step = with_long_rows(train_step(trainer_for("lora of the ends", jnp.bfloat16, folder)))
    assert calls_in(step, "tpu") == {"tpu_custom_call"}
    assert not calls_in(step, "rocm")
    wide = with_long_rows(train_step(trainer_for("lora of the ends", jnp.float32, folder)))
    assert not calls_in(wide, "tpu")


programs_of_decoding, programs_of_scoring = cache(decoding), cache(scoring)


@every_dtype
@pytest.mark.parametrize("name", ENGINE_PROGRAMS)
def test_decoding_lowers_for_every_accelerator(name, dtype, platforms):
    check_lowers(programs_of_decoding(dtype)[name], platforms)


@pytest.mark.parametrize("name", ["read", "go_on"])
def test_decoding_of_an_ensemble_with_windows_lowers_for_every_accelerator(name):
    check_lowers(decoding(jnp.bfloat16, ensemble=True, **WINDOWED)[name])


@every_dtype
@pytest.mark.parametrize("name", ["mixtures", "adapters"])
def test_scoring_lowers_for_every_accelerator(name, dtype, platforms):
    check_lowers(programs_of_scoring(dtype)[name], platforms)


@pytest.mark.parametrize("op", OPERATORS.values(), ids=OPERATORS.keys())
def test_operator_and_its_gradient_lower_for_every_accelerator(op):
    check_lowers(fusion(op))


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_algebra_lowers_for_every_accelerator(name):
    check_lowers(SPECTRAL[name])


def test_cache_is_read_in_slices_on_cpu_alone(monkeypatch):
    monkeypatch.setattr(attention, "CPU_SLICE_BYTES", 1)
    cache_of = jnp.zeros((2, 3, 2, 8, 4))
    past = LayerPast(cache_of, cache_of, jnp.int32(0), jnp.ones((3, 1, 8), bool))
    own, seen = jnp.zeros((3, 2, 1, 4)), jnp.ones((3, 1, 1), bool)
    step = jax.jit(lambda q, past: attention.attend_with_past(q, own, own, seen, past, 0.5, None))
    for platform in ("cpu", *PLATFORMS):
        exported = jax.export.export(step, platforms=[platform])(jnp.zeros((3, 1, 2, 4)), past)
        assert ("stablehlo.while" in exported.mlir_module()) == (platform == "cpu")


def test_call_to_lapack_is_found():
    def of_cpu(x):
        call = jax.ffi.ffi_call("lapack_sgetrf_ffi", jax.ShapeDtypeStruct(x.shape, x.dtype))
        return call(x)

    for platform in PLATFORMS:
        with pytest.raises(AssertionError, match=f"{platform}: lapack_sgetrf_ffi"):
            check_lowers(Program(jax.jit(of_cpu), (jnp.ones((3, 3)),)), (platform,))


def test_way_through_the_host_is_found():
    def by_numpy(x):
        return jax.pure_callback(np.linalg.inv, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    for platform in PLATFORMS:
        with pytest.raises((NotImplementedError, ValueError)):
            check_lowers(Program(jax.jit(by_numpy), (jnp.ones((3, 3)),)), (platform,))
