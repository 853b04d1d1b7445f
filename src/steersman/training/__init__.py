"""Learning from a dataset: the loop, its checkpoints, several processes. Start with `TrainConfig` and `train`."""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
