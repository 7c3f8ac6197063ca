"""Operations counted in compiled programs whose number is known."""

import jax
import jax.numpy as jnp
import pytest

from lorafuse_jax.plan.loops import runs_of
from lorafuse_jax.plan.products import product_flops
from lorafuse_jax.plan.program import parse

M, K, N, TURNS, INNER = 8, 16, 24, 5, 3
LEFT, RIGHT = jnp.ones((M, K)), jnp.ones((K, N))
SQUARE = jnp.ones((K, K))


def once(x):
    return x @ RIGHT


def scanned(x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, jnp.ones((TURNS, K, K)))[0]


def nested(x):
    def outer(x, _):
        return jax.lax.fori_loop(0, INNER, lambda _, x: jnp.tanh(x @ SQUARE), x), None

    return jax.lax.scan(outer, x, None, length=TURNS)[0]


def backwards(x):
    return jax.grad(lambda x: scanned(x).sum())(x)


def batched(x):
    return jnp.einsum("bmk,bkn->bmn", jnp.stack([x] * 3), jnp.ones((3, K, N)))


KNOWN = {
    once: 2 * M * K * N,
    scanned: TURNS * 2 * M * K * K,
    nested: TURNS * INNER * 2 * M * K * K,
    backwards: 2 * TURNS * 2 * M * K * K,
    batched: 3 * 2 * M * K * N,
}


@pytest.mark.parametrize("function", KNOWN, ids=lambda function: function.__name__)
def test_products_of_a_known_program(function):
    compiled = jax.jit(function).lower(LEFT).compile()
    assert product_flops(parse(compiled.as_text())) == KNOWN[function]


def test_the_compilers_own_count_has_a_scanned_body_once():
    compiled = jax.jit(scanned).lower(LEFT).compile()
    own = compiled.cost_analysis()["flops"]
    assert KNOWN[scanned] / TURNS <= own < 1.5 * KNOWN[scanned] / TURNS


LOOP = """
%body (state: (s32[], s32[], f32[4])) -> (s32[], s32[], f32[4]) {
  %state = (s32[]{:T(128)}, s32[], f32[4]{0:T(128)S(1)}) parameter(0)
  %k = s32[]{:T(128)} get-tuple-element(%state), index=0
  %end = s32[] get-tuple-element(%state), index=1
  %x = f32[4]{0} get-tuple-element(%state), index=2
  %two = s32[] constant(2)
  %next = s32[] add(%k, %two)
  ROOT %made = (s32[], s32[], f32[4]) tuple(%next, %end, /*index=2*/%x)
}

%condition (state: (s32[], s32[], f32[4])) -> pred[] {
  %state.1 = (s32[], s32[], f32[4]) parameter(0)
  %k.1 = s32[] get-tuple-element(%state.1), index=0
  %end.1 = s32[] get-tuple-element(%state.1), index=1
  ROOT %less = pred[] compare(%k.1, %end.1), direction=LT
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x.2 = f32[4] parameter(0)
  %start = s32[] constant(1)
  %bound = s32[] constant(8)
  %all = (s32[], s32[], f32[4]) tuple(%start, %bound, %x.2)
  %loop = (s32[], s32[], f32[4]) while(%all), condition=%condition, body=%body
  ROOT %out = f32[4] get-tuple-element(%loop), index=2
}
"""


def test_turns_follow_from_the_counter_where_the_compiler_does_not_say_them():
    assert runs_of(parse(LOOP))["body"] == 4  # at 1, 3, 5, 7


def test_a_loop_that_depends_on_data_is_refused():
    text = LOOP.replace("s32[] constant(8)", "s32[] custom-call(%x.2)")
    with pytest.raises(ValueError, match="no counter"):
        runs_of(parse(text))


CONVOLUTIONS = {
    # eight products of [1024, 4096] and [4096, 16], as a TPU writes a batched one
    "f32[8,1024,16] convolution(%a, %b), window={size=8 stride=7 lhs_dilate=8},"
    " dim_labels=0bf_0io->0bf": ((8, 1024, 4096), (8, 4096, 16), 8 * 2 * 1024 * 4096 * 16),
    "f32[8,64,16] convolution(%a, %b), window={size=8 stride=8 pad=7_7 lhs_dilate=7"
    " rhs_reversal=1}, dim_labels=0fb_0oi->0fb": ((8, 32, 16), (8, 64, 32), 8 * 2 * 16 * 32 * 64),
    "f32[8,10,32,4] convolution(%a, %b), window={size=1x32 pad=0_0x31_31 rhs_reversal=0x1},"
    " dim_labels=0bf1_1oi0->0b1f": ((8, 10, 12, 1), (32, 4, 12, 1), 8 * 32 * 2 * 10 * 12 * 4),
}


@pytest.mark.parametrize("line", CONVOLUTIONS)
def test_products_that_are_written_as_convolutions(line):
    left, right, flops = CONVOLUTIONS[line]
    shape = lambda sizes: f"f32[{','.join(map(str, sizes))}]"  # noqa: E731
    text = (
        "ENTRY %main (a: f32[1], b: f32[1]) -> f32[1] {\n"
        f"  %a = {shape(left)} parameter(0)\n  %b = {shape(right)} parameter(1)\n"
        f"  ROOT %c = {line}\n}}\n"
    )
    assert product_flops(parse(text)) == flops


def test_a_computation_for_another_thread_ends_where_it_ends():
    body = "  %x = f32[8,16] parameter(0)\n  ROOT %y = f32[8,16] tanh(%x)\n}"
    text = (
        f'%there (x: f32[8,16]) -> f32[8,16] {{\n{body}, execution_thread="sparsecore"\n\n'
        f"ENTRY %main (x: f32[8,16]) -> f32[8,16] {{\n{body}\n"
    )
    program = parse(text)
    assert {name: len(one.instructions) for name, one in program.computations.items()} == {
        "there": 2,
        "main": 2,
    }
