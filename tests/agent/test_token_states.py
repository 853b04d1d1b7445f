"""An agent whose states are tokens: goals, read-outs, disagreement, surprise, planners, a policy."""

from __future__ import annotations

import msgspec
import pytest
import torch

from steersman.actor import CEM, DistilledPolicy, Gradient, Search
from steersman.agent import Agent, AgentConfig
from steersman.core import ActionSpec, ColumnGoal, ObservationGoal, ObservationSpec, PlanningError, Signature, Task
from steersman.perception import ConvEncoder, LinearReadout
from steersman.world_model import RecurrentModel, ResidualModel, TransformerModel

SIGNATURE = Signature({"image": ObservationSpec("image", (16, 16, 3))}, ActionSpec("continuous", (-1.0,), (1.0,)))
MODELS = {
    "residual": ResidualModel.Config(width=16, depth=1, members=2, grid=(2, 2)),
    "recurrent": RecurrentModel.Config(width=16),
    "transformer": TransformerModel.Config(width=16, depth=1, heads=2, head_width=8, hidden=16, grid=(2, 2)),
}
PLANNERS = {
    "cem": CEM.Config(samples=8, iterations=2, elites=2, horizon=3),
    "gradient": Gradient.Config(restarts=2, steps=2, horizon=3),
}


def agent_of(model, planner):
    torch.manual_seed(0)
    perception = ConvEncoder.Config(patch=4, widths=(4, 8), size=5, pool="tokens")
    encoder = perception.build(SIGNATURE).eval()
    assert encoder.latent_shape == (4, 5)
    world = MODELS[model].build(SIGNATURE, encoder.latent_shape, None).eval()
    readout = LinearReadout.Config(ridge=None).build(("x", "y"), encoder.latent_shape)
    states = torch.randn(40, 4, 5)
    readout.fit(states, states[:, 0, :2] + states[:, 3, 2:4])
    config = AgentConfig(perception=perception, world_model=MODELS[model], planner=planner)
    return Agent(config, SIGNATURE, encoder, world, readout=readout.eval())


def picture(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.randint(0, 256, (count, 16, 16, 3), generator=generator, dtype=torch.uint8)}


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("model", MODELS)
def test_an_agent_plans_to_pictures_and_to_columns(model, planner):
    agent = agent_of(model, PLANNERS[planner])
    for goal in (ObservationGoal({"image": picture(1, 9)["image"][0]}), ColumnGoal({"x": 0.5})):
        agent.reset([5, 6])
        plan = agent.act(picture(2, 1), Task(goal))
        states = plan.imagined.states
        assert states.shape[3:] == (4, 5)
        if isinstance(goal, ObservationGoal):
            target = agent.encode(picture(1, 9)).state
            expected = (states[:, :, 1:] - target[:, None, None]).square().mean((-2, -1))
        else:
            expected = ((agent.readout.read(states[:, :, 1:])[..., 0] - 0.5) / agent.readout.scale["x"]).square()
        found = plan.energy["goal"]
        torch.testing.assert_close(found, expected.view_as(found), rtol=1e-4, atol=1e-5)
        assert (plan.imagined.disagreement is not None) == (model == "residual")


def test_a_search_over_a_graph_of_vectors_says_that_it_cannot_take_tokens():
    agent = agent_of("residual", Search.Config(nodes=12))
    with pytest.raises(PlanningError, match="states of shape"):
        agent.act(picture(1, 1), Task(ColumnGoal({"x": 0.5})))


def test_a_policy_reads_every_token():
    policy = DistilledPolicy.Config(hidden=(8,)).build(SIGNATURE, (4, 5), None)
    states = torch.randn(30, 4, 5)
    policy.calibrate(states.flatten(1))
    for token in range(4):
        other = states.clone()
        other[:, token] += 1
        assert float((policy.act(other) - policy.act(states)).detach().abs().min()) > 0


def test_settings_of_before_load_weights_of_before():
    """A flattened predictor's tensors have the names and sizes that they had."""
    flat = msgspec.structs.replace(MODELS["recurrent"], tokens="flat").build(SIGNATURE, (4, 5), None)
    assert {name: tuple(x.shape) for name, x in flat.state_dict().items()} == {
        "actions.scale": (1,), "actions.shift": (1,), "cell.weight_ih": (48, 21), "cell.weight_hh": (48, 16),
        "cell.bias_ih": (48,), "cell.bias_hh": (48,), "to_change.weight": (20, 16), "to_change.bias": (20,),
    }
