"""Encoder of vector observations: normalise by the log's statistics, then a multilayer perceptron.

Knows columns, not what they mean. Shapes: B batch, T steps, C columns, D latent size.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from steersman.core import ConfigError, DataError, Latent, Observation, Perception, Signature, Task
from steersman.nn import mlp


class VectorEncoder(Perception):
    """s = MLP(x̂), or [x̂ | MLP(x̂)] with `keep`, of x̂ = (x - mean) / deviation; x (B, T, C) -> (B, T, D).

    With `keep` the latent begins with the columns themselves, so that they can be read off it exactly, and the network
    adds `size` features to them: right where the columns are the state and little disturbed. Without, the latent holds
    what can be predicted, and noise of sensors is left out.

    mean and deviation are fitted to the training part of the log by `calibrate` and travel with the weights; a column
    that never changes keeps deviation 1. Several vector observations are read side by side, in the order of their
    names. Hidden layers have SiLU.
    """

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vector"):
        """observations: which vectors to read (empty: every vector of the signature); size: features, D (or D - C).

        keep  the normalised columns are the first C entries of the latent
        """

        observations: tuple[str, ...] = ()
        hidden: tuple[int, ...] = (256, 256)
        size: int = 32
        keep: bool = False

        def __post_init__(self) -> None:
            if self.size < 1 or any(width < 1 for width in self.hidden):
                raise ConfigError("positive sizes", f"{self}", "correct the perception's configuration")

        def build(self, signature: Signature) -> VectorEncoder:
            return VectorEncoder(self, signature)

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        vectors = {name for name, spec in signature.observations.items() if spec.kind == "vector"}
        self.observations = tuple(sorted(config.observations or vectors))
        if not self.observations or not set(self.observations) <= vectors:
            raise ConfigError(
                f"vector observations {list(config.observations) or '(any)'}",
                f"{ {name: spec.kind for name, spec in sorted(signature.observations.items())} }",
                "name vectors of the data, or use an image encoder",
            )
        width = sum(signature.observations[name].shape[0] for name in self.observations)
        self.keep, self.size = config.keep, config.size + config.keep * width
        self.network = mlp([width, *config.hidden, config.size])
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.size,)

    def calibrate(self, observation: Observation) -> None:
        rows = self._rows(observation).double().flatten(0, -2)
        deviation, mean = torch.std_mean(rows, 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0))

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        rows = (self._rows(observation) - self.mean) / self.deviation
        features = self.network(rows)
        return Latent(torch.cat([rows.to(features.dtype), features], -1) if self.keep else features)

    def _rows(self, observation: Observation) -> Tensor:
        missing = set(self.observations) - set(observation)
        if missing:
            raise DataError(
                f"observations {list(self.observations)}", f"{sorted(observation)}", f"add {', '.join(sorted(missing))}"
            )
        rows = torch.cat([observation[name] for name in self.observations], -1)
        if rows.shape[-1] != len(self.mean):
            raise DataError(f"{len(self.mean)} columns", f"{rows.shape[-1]}", "use observations of the trained world")
        return rows.to(self.mean.dtype)
