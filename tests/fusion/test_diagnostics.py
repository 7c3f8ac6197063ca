"""How members relate: against NumPy on dense deltas, and where the answer is known."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lorafuse_jax.adapter import norm, take
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.fusion.diagnostics import applicable, diagnose, norm_after
from lorafuse_jax.fusion.learned import fisher
from lorafuse_jax.fusion.linear.mean import mean
from lorafuse_jax.fusion.linear.slerp import slerp
from lorafuse_jax.fusion.sparse.dare import dare
from lorafuse_jax.fusion.sparse.ties import ties
from lorafuse_jax.types import LoraPair, UserError
from tests.fusion.members import dense, members_of, random_members, repeat

FLOAT32 = 1e-4
MODULE = "layers/mlp/up_proj"
PAIRS = list(combinations(range(3), 2))


@pytest.fixture(scope="module")
def stacked():
    return random_members(np.random.default_rng(81))


@pytest.fixture(scope="module")
def found(stacked):
    return jax.jit(diagnose)(stacked[MODULE])


def test_norms_and_cosines_are_those_of_the_deltas(stacked, found):
    deltas = dense(stacked)[MODULE].reshape(3, 2, -1)
    np.testing.assert_allclose(found.norms.T, np.linalg.norm(deltas, axis=-1), rtol=FLOAT32)
    for layer in range(2):
        unit = deltas[:, layer] / np.linalg.norm(deltas[:, layer], axis=-1, keepdims=True)
        np.testing.assert_allclose(found.cosines[layer], unit @ unit.T, atol=FLOAT32)


def test_principal_angles_are_those_of_the_spaces_that_the_deltas_span(stacked, found):
    for layer in range(2):
        spaces = [np.linalg.svd(delta)[0::2] for delta in dense(stacked)[MODULE][:, layer]]
        for number, (i, j) in enumerate(PAIRS):
            fan_in = np.linalg.svd(spaces[i][0][:, :2].T @ spaces[j][0][:, :2])[1]
            fan_out = np.linalg.svd(spaces[i][1][:2] @ spaces[j][1][:2].T)[1]
            np.testing.assert_allclose(found.fan_in_angles[layer, number], fan_in, atol=FLOAT32)
            np.testing.assert_allclose(found.fan_out_angles[layer, number], fan_out, atol=FLOAT32)
            overlaps = [(fan_in**2).mean(), (fan_out**2).mean()]
            np.testing.assert_allclose(found.overlaps[layer, number], overlaps, atol=FLOAT32)


def test_entries_are_counted_as_seedlora_sorts_them(stacked, found):
    for layer in range(2):
        deltas = dense(stacked)[MODULE][:, layer]
        alike = np.mean([(np.sign(deltas[i]) == np.sign(deltas[j])).mean() for i, j in PAIRS])
        cuts = [np.quantile(np.abs(d), 0.9, method="higher") for d in deltas]
        large = np.array([np.abs(d) >= cut for d, cut in zip(deltas, cuts, strict=True)])
        up, down = (large & (deltas > 0)).any(0), (large & (deltas < 0)).any(0)
        expected = [alike, (up ^ down).mean(), (up & down).mean(), (~up & ~down).mean()]
        shares = [found.sign_agreement, found.robust, found.conflicting, found.quiet]
        np.testing.assert_allclose([share[layer] for share in shares], expected, atol=FLOAT32)


def test_identical_members_agree_in_everything(stacked):
    found = diagnose(repeat(stacked, 3)[MODULE])
    np.testing.assert_allclose(found.cosines, 1, atol=FLOAT32)
    np.testing.assert_allclose(found.overlaps, 1, atol=FLOAT32)
    np.testing.assert_allclose(found.sign_agreement, 1)
    assert not found.conflicting.any()


def test_members_that_share_nothing_have_right_angles():
    found = diagnose(members_of([[3, 0], [0, 0]], [[0, 0], [0, 5]])["layers/m"])
    assert found.cosines[0, 0, 1] == 0
    np.testing.assert_allclose(found.overlaps, 0, atol=FLOAT32)


def test_overlap_is_of_the_smaller_space(stacked):
    """A member of rank one inside another's space of rank two."""
    pair = stacked[MODULE]
    inside = LoraPair(
        jnp.stack([pair.lora_a[0], pair.lora_a[0].at[..., 1].set(0)]),
        jnp.stack([pair.lora_b[0], pair.lora_b[0].at[..., 1, :].set(0)]),
    )
    np.testing.assert_allclose(diagnose(inside).overlaps, 1, atol=FLOAT32)


def test_zero_members_are_at_right_angles_and_not_undefined(stacked):
    emptied = LoraPair(stacked[MODULE].lora_a, stacked[MODULE].lora_b.at[1].set(0))
    found = diagnose(emptied)
    assert all(np.isfinite(values).all() for values in found)
    assert not found.cosines[:, 1, 0].any()


@pytest.mark.parametrize("op", [mean, ties, dare], ids=lambda op: op.name)
def test_norm_after_is_the_results_norm_over_the_members(op, stacked):
    key = jax.random.key(4)
    fused = op(stacked, **({"key": key} if op.stochastic else {}))
    members = np.mean([norm(take(stacked, k)) for k in range(3)])
    np.testing.assert_allclose(norm_after(op, stacked, key), norm(fused) / members, rtol=FLOAT32)


def test_norm_after_of_members_that_are_zero_is_defined(stacked):
    """As a module is that no member's training reached."""
    dead = {MODULE: LoraPair(stacked[MODULE].lora_a, jnp.zeros_like(stacked[MODULE].lora_b))}
    assert norm_after(mean, dead, jax.random.key(0)) == 0


def test_operators_that_need_data_or_fewer_members_are_not_applicable():
    three = applicable(OPERATORS.values(), 3)
    assert fisher not in three and slerp not in three and ties in three
    assert slerp in applicable(OPERATORS.values(), 2)


def test_single_member_has_nothing_to_be_compared_with(stacked):
    with pytest.raises(UserError, match="one member"):
        diagnose(LoraPair(*(leaf[:1] for leaf in stacked[MODULE])))
