"""The figure, wired: perceive, remember, plan, act. `Agent.load(run).act(observation, task)`."""

from steersman.agent.agent import Agent
from steersman.agent.alarm import Alarm, Watch
from steersman.agent.building.further import FurtherBoxes
from steersman.agent.building.loading import Loaded, load_parts
from steersman.agent.building.origin import Origin
from steersman.agent.building.readouts import load_readout, save_readout
from steersman.agent.config import AgentConfig
from steersman.agent.experience import ExperienceLog, Transition
from steersman.agent.in_run import (
    correct_with,
    corrector_of,
    record_decisions,
    record_experience,
    remember_triplets,
    store_additions,
)
from steersman.agent.published import PublishedModel, load_published
from steersman.agent.row_by_row import RowByRow
from steersman.agent.sharing.agents import from_pretrained, push_to_hub, save_pretrained
from steersman.agent.state import AgentState
from steersman.agent.tasks import read_task

__all__ = [
    "Agent",
    "AgentConfig",
    "AgentState",
    "Alarm",
    "ExperienceLog",
    "FurtherBoxes",
    "Loaded",
    "Origin",
    "PublishedModel",
    "RowByRow",
    "Transition",
    "Watch",
    "correct_with",
    "corrector_of",
    "from_pretrained",
    "load_parts",
    "load_published",
    "load_readout",
    "push_to_hub",
    "read_task",
    "record_decisions",
    "record_experience",
    "remember_triplets",
    "save_pretrained",
    "save_readout",
    "store_additions",
]
