"""What to look at beside the loss: is the latent collapsing, and can it be read? A falling loss alone says nothing.

A gauge is any callable from a `Moment` to named numbers; it changes nothing, and training is the same without it.
Names with a slash ("probe/x") keep their group in the metrics; others come under "gauge/".

Shapes: B windows, L steps, N latents, D latent size (tokens count as latents of their own), C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from steersman.core.learning import Encoded, Glimpse, LearningBatch, Need, Viewed, Views, Visible
from steersman.core.signature import Signature

MOST = 4096
"""Latents that a gauge looks at, at most."""


@dataclass(frozen=True)
class Moment:
    """What a gauge sees.

    step     optimiser steps done
    batch    what the objectives saw in this step (in training precision, with its graph: detach what you keep)
    """

    step: int
    batch: LearningBatch

    def latents(self) -> Tensor:
        """(N, D) float32, at most `MOST`, evenly taken: of the moments as they are, else of their first view, else of
        their visible tokens."""
        states = _states(self.batch).detach().float()
        flat = states.reshape(-1, states.shape[-1])
        return flat[:: -(-len(flat) // MOST)]


Gauge = Callable[[Moment], Mapping[str, float]]


def has_states(needs: Iterable[Need[Any]]) -> bool:
    """Whether anything is made that `Moment.latents` can look at."""
    return any(isinstance(need, (Encoded, Views, Visible)) for need in needs)


def _states(batch: LearningBatch) -> Tensor:
    if Encoded() in batch.made:
        return batch.latent.state
    for need, made in batch.made.items():
        if isinstance(need, Views):
            return cast(Viewed, made).latents[0].state
        if isinstance(need, Visible):
            return cast(Glimpse, made).tokens
    raise AssertionError("nothing was encoded")


def spread(moment: Moment) -> dict[str, float]:
    """Standard deviation of each latent dimension over the batch: mean and least. Near 0: collapsed.

    >>> from types import SimpleNamespace as Of
    >>> sorted(spread(Moment(1, Of(latent=Of(state=torch.randn(4, 3, 8))))))
    ['std_least', 'std_mean']
    """
    std = moment.latents().std(0)
    return {"std_mean": float(std.mean()), "std_least": float(std.min())}


def effective_rank(moment: Moment) -> dict[str, float]:
    """exp(-Σ p_i log p_i), p = σ / Σ σ, σ the singular values of the centred latents (Roy & Vetterli 2007).

    From 1 (a line) to D; 0 if the latents are all the same. Far below D: most dimensions repeat others. "rank_share" is
    it over D.
    """
    latents = moment.latents().double()
    size = torch.linalg.vector_norm(latents)
    latents = latents - latents.mean(0)
    values = torch.linalg.eigvalsh(latents.mT @ latents).clamp(min=0).sqrt()
    total = values.sum()
    if not bool(total > 1e-9 * size):
        return {"effective_rank": 0.0, "rank_share": 0.0}
    p = values / total
    rank = float(torch.exp(-(p * p.clamp(min=1e-12).log()).sum()))
    return {"effective_rank": rank, "rank_share": rank / latents.shape[-1]}


def within_share(moment: Moment) -> dict[str, float]:
    """Share of the latent's variance that is within windows: Σ_d Var^within_d / Σ_d Var_d, 0 to 1 and a little more.

    Var^within pools the deviations of each state (each token) from the mean of its own window, Var those from the mean
    of the batch (of that token). Near 0 the latent tells windows apart, and hardly what happens in them: the world is
    that slow, or a background has become the whole latent. Collapsed to a point it says nothing, and is 1.
    """
    states = moment.batch.latent.state.detach().float()
    within = (states - states.mean(1, keepdim=True)).square().sum() / max(1, states.shape[0] * (states.shape[1] - 1))
    around = states - states.mean((0, 1), keepdim=True)
    whole = around.square().sum() / max(1, states.shape[0] * states.shape[1] - 1)
    if not bool(whole > 1e-12 * states.square().mean()):
        return {"within_share": 1.0}
    return {"within_share": float(within / whole)}


def persistence(moment: Moment) -> dict[str, float]:
    """Squared error of the rollouts relative to that of predicting no change. Below 1: the model knows something."""
    predicted = moment.batch.predicted.states.detach().float()
    targets = moment.batch.targets().detach().float()
    still, error = (predicted[:, :, :1] - targets).square(), (predicted[:, :, 1:] - targets).square()
    measured = moment.batch.measured_targets()
    if measured is not None:
        still, error = still * measured, error * measured
    return {"error_vs_still": float(error.mean() / still.mean().clamp(min=1e-12))}


class RidgeProbe:
    """Reads columns from latents by ridge regression: fitted on each half of the batch's windows, scored on the other.

        W = (ZᵀZ + λ n I)⁻¹ Zᵀ Y,  Z standardised latents with a constant,  R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)²

    Stateless: each call fits anew. The columns are never trained on. Tokens are averaged before reading. Rows that
    repeat an earlier measurement of a column (`Window.measured`) are left out for it.

    Windows are few and their moments alike, hence λ = .03: with .001 a dozen windows fit 16 dimensions by chance.

    `probe/COLUMN` is the root mean square error in the column's unit, `probe_r2/COLUMN` is R² (1 is perfect, 0 no
    better than the mean).
    """

    def __init__(
        self, columns: tuple[str, ...], targets: Callable[[LearningBatch], Tensor], ridge: float = 0.03,
        observations: tuple[str, ...] = (),
    ) -> None:
        """columns: names; targets: batch -> their values (B, L+1, C); observations: which one each column is of, if
        that matters."""
        self.columns, self._targets, self._ridge = columns, targets, ridge
        self._of = observations or ("",) * len(columns)

    @classmethod
    def of(cls, signature: Signature) -> RidgeProbe | None:
        """A probe for every vector observation whose columns are named, or None if there is none."""
        named = [(name, spec.columns) for name, spec in signature.observations.items() if spec.columns]
        if not named:
            return None
        columns = tuple(column for _, columns in named for column in columns)
        observations = tuple(name for name, columns in named for _ in columns)
        return cls(
            columns, lambda batch: torch.cat([batch.window.observations[name] for name, _ in named], -1),
            observations=observations,
        )

    def __call__(self, moment: Moment) -> dict[str, float]:
        states = moment.batch.latent.state.detach().double()
        states = states.flatten(2) if states.dim() == 3 else states.mean(2)
        half = len(states) // 2
        if half < 1:
            return {}
        targets, measured = self._targets(moment.batch).detach().double(), moment.batch.window.measured
        errors: dict[str, float] = {}
        for name in dict.fromkeys(x if x in measured else "" for x in self._of):  # "": measured in every row
            which = [i for i, x in enumerate(self._of) if (x if x in measured else "") == name]
            rows = measured[name] if name else torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
            parts = (slice(half), slice(half, None))
            if min(int(rows[part].sum()) for part in parts) < 2:
                continue
            y = targets[..., which]
            square = torch.cat([
                self._held_out(states[a][rows[a]], y[a][rows[a]], states[b][rows[b]], y[b][rows[b]])
                for a, b in (parts, parts[::-1])
            ]).mean(0)
            r2 = 1 - square / y[rows].var(0, correction=0).clamp(min=1e-12)
            names = [self.columns[i] for i in which]
            errors |= {f"probe/{n}": float(x) for n, x in zip(names, square.sqrt(), strict=True)}
            errors |= {f"probe_r2/{n}": float(x) for n, x in zip(names, r2, strict=True)}
        return errors

    def _held_out(self, z: Tensor, y: Tensor, test: Tensor, truth: Tensor) -> Tensor:
        """Fitted to (n, D) -> (n, C): squared errors (m, C) on others."""
        mean, std, centre = z.mean(0), z.std(0).clamp(min=1e-8), y.mean(0)
        z = (z - mean) / std
        gram = z.mT @ z + self._ridge * len(z) * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        weight = torch.linalg.solve(gram, z.mT @ (y - centre))
        return (truth - centre - ((test - mean) / std) @ weight).square()
