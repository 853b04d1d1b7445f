from .cost import check_cost as check_cost
from .guardrail import check_guardrail as check_guardrail
from .memory import check_memory as check_memory
from .planner import check_planner as check_planner
from .world_model import check_world_model as check_world_model
