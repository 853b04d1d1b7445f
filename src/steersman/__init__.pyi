__version__: str

from . import (
    actor as actor,
    agent as agent,
    core as core,
    cost as cost,
    data as data,
    evaluation as evaluation,
    evidence as evidence,
    export as export,
    objectives as objectives,
    perception as perception,
    recipes as recipes,
    runs as runs,
    serving as serving,
    studio as studio,
    training as training,
    world_model as world_model,
    worlds as worlds,
)
from .agent import Agent as Agent
from .core import (
    SteersmanError as SteersmanError,
    Task as Task,
    check_cost as check_cost,
    check_guardrail as check_guardrail,
    check_memory as check_memory,
    check_planner as check_planner,
    check_world_model as check_world_model,
)
