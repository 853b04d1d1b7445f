"""What each learned task asks for: its columns, read off the latents of windows that are encoded for it.

Shapes: B windows, T = L+1 moments, D latent size (a vector, or N tokens of size D), K tasks, C columns.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Objective
from steersman.core.errors import ConfigError
from steersman.core.learning import Attending, Encoded, LearningBatch, Loss, Need
from steersman.core.nearest import by_nearness
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.nn.distributed import all_sum
from steersman.objectives.statistics import full_precision, mean


class AskedColumns(Objective):
    """Error of the columns that a window's task asks for, read off its latents by a linear head for each task.

        E = weight · Σ_b Σ_{c in task(b)} Σ_t (W_{k(b),c} · s_{b,t} + w_{k(b),c} - y_{b,t,c})² / (number of terms)

    with k(b) the task that window b is encoded for (`batch.of(Attending(…))`, 0: none in particular), s =
    `batch.latent.state` (B, T, [N,] D), and y columns of the log's vector observations in units of their deviation so
    far (running moments, in buffers). A window of no task in particular is asked for `always`. Only what is asked for
    is rewarded, so in a state too narrow for everything each task gets its own: the same moment, another latent.

    The columns are labels: a perception that reads pictures alone never sees them. Values that only repeat an earlier
    measurement do not count.

    Part: "asked", the mean squared error (1: the mean of the log).

    Raises:
        ConfigError: no columns at all, a column that no vector of the log has. Before the first step also: other tasks
            than the perception's.
    """

    @register(Objective)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="asked_columns"):
        """tasks: name of a task of the perception -> columns that it asks for; always: asked where there is no task in
        particular (default: those of all tasks)."""

        tasks: dict[str, tuple[str, ...]] = {}
        always: tuple[str, ...] = ()
        weight: float = 1.0

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> AskedColumns:
            return AskedColumns(self, signature, latent_shape)

    asked: Tensor
    moments: Tensor
    seen: Tensor

    def __init__(self, config: Config, signature: Signature, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        places = {
            column: (name, i) for name, spec in sorted(signature.observations.items()) if spec.kind == "vector"
            for i, column in enumerate(spec.columns)}
        every = dict.fromkeys((*config.always, *(c for asked in config.tasks.values() for c in asked)))
        unknown = next((column for column in every if column not in places), None)
        if unknown is not None or not every:
            known = ", ".join(by_nearness(unknown or "", places)) or "(none: no vector has named columns)"
            raise ConfigError(f"columns of the log's vectors that tasks ask for: {known}",
                              "none" if unknown is None else repr(unknown), "correct the objective's configuration")
        self._places = [places[column] for column in every]
        rows = [config.always or tuple(every), *config.tasks.values()]
        self.register_buffer("asked", torch.tensor([[c in row for c in every] for row in rows]), persistent=False)
        size = torch.Size(latent_shape).numel()
        self.weight = nn.Parameter(torch.randn(len(rows), len(every), size) * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(rows), len(every)))
        self.register_buffer("moments", torch.zeros(2, len(every), dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(len(every), dtype=torch.float64))

    @property
    def needs(self) -> tuple[Need[Any], ...]:
        return (Encoded(), Attending(tuple(self.config.tasks))) if self.config.tasks else (Encoded(),)

    def forward(self, batch: LearningBatch) -> Loss:
        states = batch.latent.state.flatten(2).float()
        observations, known = batch.window.observations, batch.window.measured
        values = torch.stack([observations[name][..., i] for name, i in self._places], -1).float()
        measured = torch.stack([known[name] if name in known else values[..., 0].isfinite()
                                for name, _ in self._places], -1)
        if self.training:
            self._follow(values, measured)
        task = batch.of(Attending(tuple(self.config.tasks))) if self.config.tasks else \
            torch.zeros(len(states), dtype=torch.int64, device=states.device)
        with full_precision(states):
            read = torch.einsum("btd,bcd->btc", states, self.weight[task]) + self.bias[task][:, None]
            errors = (read - self._standard(values)).square()
            error = mean(errors, (self.asked[task][:, None] & measured).float())
        return Loss(self.config.weight * error, {"asked": error.detach()})

    def _standard(self, values: Tensor) -> Tensor:
        count = self.seen.clamp(min=1)
        centre = self.moments[0] / count
        spread = (self.moments[1] / count - centre.square()).clamp(min=1e-12).sqrt()
        return (values - centre.to(values)) / spread.to(values)

    @torch.no_grad()
    def _follow(self, values: Tensor, measured: Tensor) -> None:
        """Sums of the columns, of all batches so far and every process."""
        x = torch.where(measured, values, 0.0).double()
        sums = torch.stack([x.sum((0, 1)), x.square().sum((0, 1)), measured.double().sum((0, 1))])
        sums = all_sum(sums)
        self.moments += sums[:2]
        self.seen += sums[2]
