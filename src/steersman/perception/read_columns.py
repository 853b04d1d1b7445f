"""What a read-out reads off pictures, as an observation: the second of two trainings learns how it moves.

Knows encoders and read-outs by core's abstract classes. Shapes: B batch, T steps, C columns, D state size.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from steersman.core import (
    ConfigError,
    Latent,
    Observation,
    ObservationSpec,
    Perception,
    PerceptionConfig,
    ReadoutConfig,
    Signature,
    Task,
    register,
)
from steersman.perception.read_source import weights_of
from steersman.perception.readout import ColumnReadout
from steersman.perception.vector import VectorEncoder

READ = "read"
"""What the columns are called as an observation (`ReadEncoder.fixed`)."""


class ReadEncoder(Perception):
    """s = features(y), y = the chosen columns of r(e(x)): x pictures, e an encoder, r a read-out that was fitted to it.

    Encoder and read-out come from a run whose read-out was fitted to a few labels (`steersman fit RUN --labels`), and
    never change. What they read is noisy and, where the latent holds too little, wrong; but it has units, it is small,
    and errors of moments that follow each other differ. A world model with a history (`ObserverModel`) that learns on
    the whole log how the columns move therefore filters them, tells speeds that no single moment shows well, and
    foresees in the space in which goals are given. `features` are those of a vector encoder, with `keep` the
    standardised columns are the first of them.

    The columns themselves are a read-out of this perception that need not be fitted to labels (`columns`, `told`).
    Training reads each moment of the log once (`fixed`).

    Raises:
        ConfigError: a column that the read-out does not have, an encoder that never becomes one state.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="read"):
        """
        picture   configuration of the encoder
        readout   configuration of the read-out; read: its columns
        columns   those that become the state; (): all
        features  of the columns; its `observations` are the columns, whatever it says
        source    folder of the run that the weights are read from when a training begins; "": they stay as they are
                  drawn, or are loaded with those of a run trained before
        """

        picture: PerceptionConfig
        readout: ReadoutConfig
        read: tuple[str, ...]
        columns: tuple[str, ...] = ()
        features: VectorEncoder.Config = VectorEncoder.Config(size=16, hidden=(128, 128), keep=True)
        source: str = ""

        def build(self, signature: Signature) -> ReadEncoder:
            return ReadEncoder(self, signature)

    def __init__(self, config: Config, signature: Signature) -> None:
        super().__init__()
        chosen = config.columns or config.read
        unknown = [name for name in chosen if name not in config.read]
        if unknown or not chosen:
            raise ConfigError(f"columns of the read-out: {', '.join(config.read) or 'none'}",
                              ", ".join(unknown) or "none", "choose among those that it reads")
        self.config, self._columns = config, chosen
        self.picture = config.picture.build(signature)
        readout = config.readout.build(config.read, self.picture.latent_shape)
        if not isinstance(readout, ColumnReadout):
            raise ConfigError("a read-out that is fitted to columns", type(readout).__name__, "fit one to labels")
        self.readout = readout
        for fixed in (self.picture, self.readout):
            fixed.eval().requires_grad_(False)
        spec = ObservationSpec("vector", (len(chosen),), columns=chosen)
        features = msgspec.structs.replace(config.features, observations=(READ,))
        self.features = features.build(Signature({READ: spec}, signature.action))
        self.latent_shape = self.features.latent_shape
        self._index = [config.read.index(name) for name in chosen]

    latent_shape: tuple[int, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    def initialise(self) -> None:
        """Take the weights of `source`.

        Raises:
            UsageError: a run without a read-out, or with one of other columns. CheckpointError, RunError: damaged.
        """
        if self.config.source:
            encoder, readout = weights_of(self.config.source, self.config.read, self.picture.state_dict(),
                                          self.readout.state_dict())
            self.picture.load_state_dict(encoder)
            self.readout.load_state_dict(readout)

    def train(self, mode: bool = True) -> ReadEncoder:
        """What reads stays in evaluation mode."""
        super().train(mode)
        self.picture.eval()
        self.readout.eval()
        return self

    @torch.no_grad()
    def told(self, observation: Observation) -> Tensor:
        """Named observations, each (B, T, …) -> the columns (B, T, C), in their units."""
        if READ in observation:
            return observation[READ]
        state = self.picture.encode(observation).state
        return self.readout.read(state.float(), self.picture.survey(observation))[..., self._index]

    def fixed(self, observation: Observation) -> Observation:
        return {READ: self.told(observation)}

    def calibrate(self, observation: Observation) -> None:
        self.features.calibrate(self.fixed(observation))

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        return self.features.encode(self.fixed(observation))

    def measured(self, rows: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(rows.values())).all(0)[..., None]
