"""steersman: objective-driven AI. An agent is a nest of energy minimisers, each at its own frequency.

Nothing is imported before it is used: `import steersman` does not load torch.
"""

from steersman.core.lazy import catalogue

__version__ = "0.1.0"

_PACKAGES = (
    "actor agent core cost data evaluation evidence export objectives perception recipes runs serving studio "
    "training world_model worlds"
).split()

__getattr__, __dir__, __all__ = catalogue(
    __name__,
    {
        **{name: f".{name}" for name in _PACKAGES},
        "Agent": ".agent",
        "Task": ".core",
        "SteersmanError": ".core",
        **dict.fromkeys(["check_cost", "check_guardrail", "check_planner", "check_world_model"], ".core"),
    },
)
