"""From what people write to a task, and from a task to settings of the other boxes."""

from steersman.configurator.limits import condition, guardrail, kept_guardrail, limit
from steersman.configurator.presets import Preset, Presets
from steersman.configurator.task_file import Known, StageFile, TaskFile, parse_task

__all__ = [
    "Known",
    "Preset",
    "Presets",
    "StageFile",
    "TaskFile",
    "condition",
    "guardrail",
    "kept_guardrail",
    "limit",
    "parse_task",
]
