"""An agent so small that it decides in a millisecond, and how its server is called."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from small_world import SIGNATURE, agent

from steersman.actor import CEM
from steersman.agent import Agent
from steersman.cost import Box
from steersman.perception import LinearReadout
from steersman.serving import Limits

TOKEN = "a-token-for-tests-only"
LIMITS = Limits(header_seconds=0.6, body_seconds=0.6, body_bytes=20_000, held_bytes=60_000, queue=4, connections=40,
                horizon=8, batch=4)
MOMENT = {"vector": [0.1, -0.2, 0.3]}
ACT = {"observation": MOMENT, "goal": {"columns": {"x": 0.5}}, "seed": 3}


def make_agent() -> Agent:
    torch.manual_seed(0)
    config = agent()
    perception = config.perception.build(SIGNATURE)
    model = config.world_model.build(SIGNATURE, perception.latent_shape, None)
    readout = LinearReadout.Config().build(("x", "y", "z"), perception.latent_shape)
    readout.fit(torch.randn(60, 8), torch.randn(60, 3), 0)
    planner = CEM.Config(samples=16, iterations=2, elites=4, horizon=4).build()
    return Agent(config, SIGNATURE, perception, model, planner=planner, readout=readout.eval())


AGENT = make_agent()
LIMIT = Box(AGENT.readout, {"y": (-100.0, 100.0)}, name="y within 100")
NEVER = Box(AGENT.readout, {"y": (1e6, 2e6)}, name="never")
