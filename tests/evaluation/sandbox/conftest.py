"""Every kind of isolation that the machine permits."""

import pytest

from lorafuse_jax.evaluation.sandbox import Limits, Program
from lorafuse_jax.evaluation.sandbox.isolation import WAYS, Kind, find_isolation
from lorafuse_jax.evaluation.sandbox.warden import Refused, ask_warden


@pytest.fixture(params=WAYS)
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param not in WAYS:
        return find_isolation()
    try:
        ask_warden(Program(source="", test=""), Limits(), request.param)
    except Refused as refusal:
        pytest.skip(f"{request.param}: {refusal}")
    return request.param
