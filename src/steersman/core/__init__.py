"""What flows between the boxes, one abstract class per box, errors, levels, randomness. No algorithm.

Imported lazily: `from steersman.core import DataError` does not load torch.
"""

from steersman.core.lazy import catalogue

_ERRORS = (
    "ActionError CheckpointError ConfigError DataError DivergedError LockedError MismatchError PartError PlanningError "
    "PromiseError RunError SealError SteersmanError StorageError UsageError"
).split()
_TYPES = (
    "Belief Budget CallableGoal ColumnGoal Episode Goal Imagined Latent LatentGoal LearningBatch Loss Observation "
    "ObservationGoal Outcomes Plan Problem Task TensorRecord Window"
).split()
_BOXES = (
    "Configurator Cost Critic Guardrail Memory Objective Perception Planner Policy Readout WorldModel"
).split()
_CHECKS = "check_cost check_guardrail check_planner check_world_model".split()
_PARTS = (
    "CostConfig ObjectiveConfig PerceptionConfig PlannerConfig ReadoutConfig WorldModelConfig register register_all"
).split()

__getattr__, __dir__, __all__ = catalogue(
    __name__,
    {
        **dict.fromkeys(_ERRORS, ".errors"),
        **dict.fromkeys(_TYPES, ".types"),
        **dict.fromkeys(_BOXES, ".boxes"),
        **dict.fromkeys(["ActionSpec", "ObservationSpec", "Signature"], ".signature"),
        **dict.fromkeys(_CHECKS, ".checks"),
        "Level": ".levels",
        **dict.fromkeys(_PARTS, ".parts"),
        "LatentGraph": ".graph",
        "Recording": ".recording",
        "Streams": ".random",
    },
)
