"""Encoder of vector observations: normalise by the log's statistics, then a multilayer perceptron.

Knows columns, not what they mean. Shapes: B batch, T steps, C columns, D latent size.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, DataError, Latent, Observation, Perception, Signature, Task, register
from steersman.nn import mlp
from steersman.perception.readout import standardise


class VectorEncoder(Perception):
    """s = MLP(x̂), or [x̂ | MLP(x̂)] with `keep`, of x̂ = (x - mean) / deviation; x (B, T, C) -> (B, T, D).

    With `keep` the latent begins with the columns themselves, so that they can be read off it exactly, and the network
    adds `size` features to them: right where the columns are the state and little disturbed. Without, the latent holds
    what can be predicted, and noise of sensors is left out.

    mean and deviation are fitted to the training part of the log by `calibrate` and travel with the weights; a column
    that never changes keeps deviation 1. Several vector observations are read side by side, in the order of their
    names. Hidden layers have SiLU.

    An observation that is measured less often than the others (`ObservationSpec.rows_per_update`) has a perceptron and
    a block of the state of its own, so that the losses can leave out that block, and no other, where its value is only
    repeated.
    """

    @register(Perception)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="vector"):
        """observations: which vectors to read (empty: every vector of the signature); size: features, D (or D - C).

        keep  the normalised columns are the first C entries of the latent
        size  0 with `keep`: they are the whole latent, and nothing of the encoder is trained; right where the columns
              are the whole state, undisturbed
        """

        observations: tuple[str, ...] = ()
        hidden: tuple[int, ...] = (256, 256)
        size: int = 32
        keep: bool = False

        def __post_init__(self) -> None:
            if self.size < (0 if self.keep else 1) or any(width < 1 for width in self.hidden):
                raise ConfigError("positive sizes (size=0 only with keep)", f"{self}",
                                  "correct the perception's configuration")

        def build(self, signature: Signature) -> VectorEncoder:
            return VectorEncoder(self, signature)

    mean: Tensor
    deviation: Tensor
    latent_shape: tuple[int, ...] = ()

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
        widths = {name: signature.observations[name].shape[0] for name in self.observations}
        width = sum(widths.values())
        self.keep, self.latent_shape = config.keep, (config.size + config.keep * width,)
        slow = [name for name in self.observations if signature.observations[name].rows_per_update > 1]
        if len(slow) == len(self.observations):
            slow = slow[1:]  # the first is what the others are slower than, or as slow as
        self.blocks = _blocks(widths, slow, config.size)
        inner = sum(widths[name] for name in self.observations if name not in slow)
        self.network = mlp([inner, *config.hidden, self.blocks[""]]) if config.size else None
        self.slow = nn.ModuleDict({str(i): mlp([widths[name], *config.hidden, self.blocks[name]])
                                   for i, name in enumerate(slow)})
        ends = torch.tensor(list(widths.values())).cumsum(0).tolist()
        self._columns = {name: slice(end - widths[name], end) for name, end in zip(widths, ends, strict=True)}
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def calibrate(self, observation: Observation) -> None:
        standardise(self._rows(observation).flatten(0, -2), self.mean, self.deviation)

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        rows = (self._rows(observation) - self.mean) / self.deviation
        if self.network is None:
            return Latent(rows)
        if not self.slow:
            features = self.network(rows)
        else:
            slow = [name for name in self.blocks if name]
            fast = torch.cat([rows[..., self._columns[name]] for name in self.observations if name not in slow], -1)
            apart = [net(rows[..., self._columns[name]]) for name, net in zip(slow, self.slow.values(), strict=True)]
            features = torch.cat([self.network(fast), *apart], -1)
        return Latent(torch.cat([rows.to(features.dtype), features], -1) if self.keep else features)

    def measured(self, rows: Mapping[str, Tensor]) -> Tensor:
        always = torch.ones_like(next(iter(rows.values())))
        together = [rows[name] for name in self.observations if name not in self.blocks and name in rows]
        known = {name: rows.get(name, always) for name in self.observations}
        blocks = [(known[name], self._columns[name].stop - self._columns[name].start)
                  for name in self.observations if self.keep]
        known[""] = torch.stack(together).all(0) if together else always
        blocks += [(known[name], size) for name, size in self.blocks.items()]
        return torch.cat([flags[..., None].expand(*always.shape, size) for flags, size in blocks], -1)

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


def _blocks(widths: Mapping[str, int], slow: list[str], size: int) -> dict[str, int]:
    """Entries of the state for each slow observation, and under "" for all others: two a column, at most an even share.

    Raises:
        ConfigError: a state too small to be shared.
    """
    if slow and size <= len(slow):
        raise ConfigError(
            f"a state of more than {len(slow)} entries for observations measured apart", f"size={size}", "raise size"
        )
    shares = {name: max(1, min(2 * widths[name], size // (len(slow) + 1))) for name in slow}
    return {"": size - sum(shares.values()), **shares}
