"""The figure, wired: perceive, remember, plan, act. `Agent.load(run).act(observation, task)`."""

from steersman.agent.agent import Agent
from steersman.agent.config import AgentConfig
from steersman.agent.origin import Origin
from steersman.agent.readouts import load_readout, save_readout

__all__ = ["Agent", "AgentConfig", "Origin", "load_readout", "save_readout"]
