"""The figure, wired: perceive, remember, plan, act. `Agent.load(run).act(observation, task)`."""

from steersman.agent.agent import Agent
from steersman.agent.building.origin import Origin
from steersman.agent.building.readouts import load_readout, save_readout
from steersman.agent.config import AgentConfig

__all__ = ["Agent", "AgentConfig", "Origin", "load_readout", "save_readout"]
