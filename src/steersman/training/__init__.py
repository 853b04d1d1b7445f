"""Learning from a dataset: the loop, its checkpoints, several processes. Start with `TrainConfig` and `train`."""

from steersman.training.checkpoints import Checkpoint, CheckpointStore
from steersman.training.config import RolloutStage, TrainConfig
from steersman.training.gauges import Gauge, Moment, RidgeProbe
from steersman.training.loop import (
    create_run,
    open_data,
    resume,
    stored_config,
    train,
)
from steersman.training.parts import held_out, split
from steersman.training.rollout import imagine_windows
from steersman.training.session import Progress, Trained
from steersman.training.source import Sampler, WindowSource

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Gauge",
    "Moment",
    "Progress",
    "RidgeProbe",
    "RolloutStage",
    "Sampler",
    "TrainConfig",
    "Trained",
    "WindowSource",
    "create_run",
    "held_out",
    "imagine_windows",
    "open_data",
    "resume",
    "split",
    "stored_config",
    "train",
]
