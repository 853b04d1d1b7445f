"""Exogenous inputs over HTTP: planned with, remembered, and refused where they do not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
import torch
from safetensors.torch import save

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_server import AGENT, LIMITS, MOMENT, TOKEN
from small_world import SIGNATURE, agent

from steersman.actor import CEM
from steersman.agent import Agent
from steersman.cli.commands.serve import example
from steersman.core import ObservationGoal, Task
from steersman.serving import Desk, Server
from steersman.serving.bodies import SAFETENSORS
from steersman.world_model import RecurrentModel, ResidualModel

HEATED = msgspec.structs.replace(SIGNATURE, exogenous=("outside", "price"))
FORECAST = {"outside": [0.5, 0.4, 0.3, 0.2], "price": [1.0, 1.0, 2.0, 2.0]}


def make_heated(history: int = 2) -> Agent:
    torch.manual_seed(1)
    config = msgspec.structs.replace(
        agent(history), world_model=RecurrentModel.Config(width=16) if history > 1 else ResidualModel.Config(width=16))
    perception = config.perception.build(HEATED)
    model = config.world_model.build(HEATED, perception.latent_shape, None)
    planner = CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build()
    return Agent(config, HEATED, perception, model, planner=planner)


@pytest.fixture(scope="module")
def heated():
    with Server(Desk(make_heated(), (), LIMITS), TOKEN) as running, httpx.Client(
        base_url=running.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10
    ) as opened:
        yield opened


HEAT = {"observation": MOMENT, "goal": {"observation": MOMENT}, "seed": 3, "exogenous": FORECAST}


def test_a_forecast_of_exogenous_inputs_is_planned_with_and_remembered(heated):
    own = make_heated()
    own.reset(3)
    task = Task(ObservationGoal({"vector": torch.tensor(MOMENT["vector"])}))
    coming = torch.stack([torch.tensor(FORECAST[name]) for name in HEATED.exogenous], -1)[None]
    for shift in (0.0, 1.0, 2.0):
        plan = own.act(MOMENT, task, exogenous=coming + shift)
        asked = {name: [x + shift for x in values] for name, values in FORECAST.items()}
        answer = heated.post("/act", json=HEAT | {"exogenous": asked, "session": "mine"}).raise_for_status().json()
        assert answer["action"] == pytest.approx(plan.action[0].tolist(), abs=1e-6)
    other = {name: [9.0] * 4 for name in FORECAST}
    first, second = (heated.post("/act", json=HEAT | {"exogenous": x}).json()["actions"] for x in (FORECAST, other))
    assert first != second
    words = {"request": json.dumps({"goal": {"observation": MOMENT}, "seed": 3})}
    tensors = {"observation.vector": torch.tensor(MOMENT["vector"])}
    tensors |= {f"exogenous.{name}": torch.tensor(values) for name, values in FORECAST.items()}
    sent = heated.post("/act", content=save(tensors, words), headers={"Content-Type": SAFETENSORS})
    assert torch.tensor(sent.raise_for_status().json()["actions"]).allclose(torch.tensor(first), atol=1e-6)
    assert heated.get("/signature").json()["signature"]["exogenous"] == ["outside", "price"]


def test_exogenous_inputs_of_several_problems_and_of_imagination(heated):
    several = {"observation": {"vector": [MOMENT["vector"]] * 2}, "goal": {"observation": MOMENT},
               "exogenous": {name: [values, values] for name, values in FORECAST.items()}}
    assert torch.tensor(heated.post("/act", json=several).raise_for_status().json()["actions"]).shape == (2, 4, 2)
    asked = {"observation": MOMENT, "actions": [[[0.1, 0.2]] * 3] * 2, "exogenous": FORECAST}
    seen = heated.post("/imagine", json=asked).raise_for_status().json()
    assert torch.tensor(seen["states"]).shape == (2, 4, 8)


def test_the_example_that_the_command_prints_is_understood(heated, client):
    for asked, served in ((heated, make_heated()), (client, AGENT)):
        body = example(Desk(served, (), LIMITS))
        assert asked.post("/act", content=body, headers={"Content-Type": "application/json"}).status_code == 200


@pytest.mark.parametrize(("given", "status", "says"), [
    ({}, 400, "expected exogenous outside, price; got nothing"),
    ({"outside": [1.0] * 4}, 400, "got outside"),
    (FORECAST | {"wind": [1.0] * 4}, 400, "got outside, price, wind"),
    (FORECAST | {"price": [1.0] * 3}, 400, "of one shape"),
    (FORECAST | {"price": 1.0}, 400, "of one shape"),
    ({name: [] for name in FORECAST}, 400, "of one shape"),
    ({name: [[1.0] * 4] for name in FORECAST}, 400, "of one shape [1 or more]; got [1, 4]"),
    (FORECAST | {"price": [1.0, 2.0, None, 4.0]}, 400, "expected numbers in exogenous 'price'"),
    (FORECAST | {"price": ["a"] * 4}, 400, "expected numbers in exogenous 'price'"),
    ({name: [1.0, 2.0] for name in FORECAST}, 422, "exogenous inputs for 4 steps; got 2"),
])
def test_a_forecast_that_does_not_fit_gets_a_sentence(heated, given, status, says):
    refused = heated.post("/act", json=HEAT | {"exogenous": given})
    assert refused.status_code == status, refused.text
    assert says in refused.json()["error"]
