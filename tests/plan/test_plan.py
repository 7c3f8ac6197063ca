"""Plans: the step that is compiled is training's, and what is said of it is so."""

import json

import pytest

from lorafuse_jax.models.published import described
from lorafuse_jax.models.weights import parameter_shapes
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.plan_command import PlanCommand
from lorafuse_jax.workflow.plan_show import as_data, headline
from tests.parallel.given import run_on_devices

CONFIG = {
    "model_type": "llama",
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
}
PARAMETERS = {
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "mistral-7b": 7_241_732_096,
    "smollm2-135m": 134_515_008,
}
"""As their publishers count them."""


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path)


def command(model: str, machine: str, **settings) -> PlanCommand:
    common = {"seeds": 2, "rank": 4, "batch": 2, "length": 64}
    return PlanCommand(model=model, machine=machine, **(common | settings))


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_models_have_the_published_number_of_parameters(name):
    shapes = parameter_shapes(described(name)[1]).values()
    total = 0
    for shape in shapes:
        size = 1
        for axis in shape:
            size *= axis
        total += size
    assert total == PARAMETERS[name]


@pytest.mark.parametrize("remat", ["projections", "layers"])
def test_the_step_multiplies_what_its_policy_asks_for_and_no_more(tiny, remat):
    plan = command(tiny, "cpu-1", remat=remat).plan()
    assert plan.demand is not None
    assert plan.over_minimum == pytest.approx(1, abs=0.02)
    assert plan.peak > plan.demand.peak  # the process takes something as well


def test_the_step_from_shapes_takes_the_memory_of_the_real_one():
    meshes = [{"seed": 2, "data": 2, "model": 2}]
    for both in json.loads(run_on_devices("tests.plan.planned_and_real", *map(json.dumps, meshes))):
        assert both["planned"] == both["real"]


def test_a_plan_for_a_tpu_is_compiled_without_one(tiny):
    pytest.importorskip("libtpu")
    plan = command(tiny, "v5e-1", remat="layers", seeds_per_pass=2, micro_batches=1).plan()
    assert plan.demand is not None
    assert plan.over_minimum == pytest.approx(1, abs=0.02)
    data = as_data(plan)
    assert data["compiled"]
    held = data["bytes_of_a_device"]
    assert held["peak"] + held["free"] == data["memory_of_a_device"]


def test_over_data_a_tpu_sends_gradients_alone(tiny):
    pytest.importorskip("libtpu")
    cut = {"mesh": "data=2,model=4", "remat": "projections", "seeds_per_pass": 2}
    plan = command(tiny, "v5e-8", **cut, micro_batches=1).plan()
    assert plan.demand is not None
    over_data = [one for one in plan.demand.counted.collectives if "data" in one.axes]
    assert [one.kind for one in over_data] == ["all-reduce"]


def test_of_gpus_it_says_that_it_estimates():
    plan = command("llama2-7b", "h100-8", seeds=8, rank=16, batch=8, length=1024).plan()
    assert plan.demand is None
    assert "an estimate" in headline(plan)
    held = plan.guess.held
    weights = 2 * PARAMETERS["llama2-7b"] // (plan.cut.mesh.model * plan.cut.mesh.data)
    assert held.weights >= weights


def test_more_seeds_fit_than_were_asked_for_and_not_any_number():
    settings = {"mesh": "data=2,model=4", "length": 1024, "estimate": True}
    few, more = (command("llama2-7b", name, **settings).plan() for name in ("v5e-8", "v6e-8"))
    assert 2 < few.most_seeds < more.most_seeds


BAD = {
    "no model 'lama'": {"model": "lama", "machine": "v5e-8"},
    "no machine 'v5e-9'; of v5e there are v5e-1": {"machine": "v5e-9"},
    "no machine 'v7-8'": {"machine": "v7-8"},
    "has 8: the product": {"machine": "v5e-8", "mesh": "seed=2"},
    "nothing divides 2 seeds": {"machine": "v5e-8", "mesh": "seed=8"},
    "does not fit on v5e-1": {"model": "llama2-13b", "machine": "v5e-1", "estimate": True},
    "beyond llama2-7b's context": {"machine": "v5e-8", "length": 5000},
    "more than an example has": {"machine": "v5e-8", "answer": 65},
    "must be at least 1": {"machine": "v5e-8", "seeds": 0},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_said(message):
    settings = {"model": "llama2-7b"} | BAD[message]
    with pytest.raises(UserError, match=message):
        command(**settings).plan()
