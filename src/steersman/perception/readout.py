"""Read-outs: states back into quantities with names, fitted on frozen latents. They never shape the latent.

Shapes: n fitted rows, D latent size (tokens are flattened), C columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, DataError, Readout, register
from steersman.nn import fit, mlp

_ROWS = 512  # rows read at a time by kernels
RIDGES = tuple(10.0**power for power in range(-6, 4))
"""λ that `LinearReadout.Config(ridge=None)` chooses from."""


class ColumnReadout(Readout):
    """A read-out with statistics of the quantities that it was fitted to.

    The columns' means and standard deviations are those of the fitted values; deviations are what an error of a goal
    on a column is measured in unless the goal says otherwise.

    r2  column -> R² on labels that a read-out of the same kind was not fitted to, where somebody measured it
    """

    r2: Mapping[str, float] = MappingProxyType({})

    state_mean: Tensor
    state_deviation: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        if not columns or len(set(columns)) != len(columns):
            raise ConfigError("distinct column names, at least one", f"{list(columns)}", "name each column once")
        self._columns, self.rank = tuple(columns), len(latent_shape)
        size = torch.Size(latent_shape).numel()
        for name, width in [("state", size), ("", len(columns))]:
            prefix = f"{name}_" if name else ""
            self.register_buffer(f"{prefix}mean", torch.zeros(width))
            self.register_buffer(f"{prefix}deviation", torch.ones(width))

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    @property
    def scale(self) -> Mapping[str, float]:
        """Column -> standard deviation in the data that the read-out was fitted to, in the column's unit."""
        return dict(zip(self._columns, cast(list[float], self.deviation.tolist()), strict=True))

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        flat = (states.flatten(-self.rank) if self.rank > 1 else states).to(self.mean.dtype)
        return self._decode((flat - self.state_mean) / self.state_deviation) * self.deviation + self.mean

    def fit(self, states: Tensor, values: Tensor, seed: int = 0, measured: Tensor | None = None) -> None:
        """Fit to frozen latents: states (n, D) or (n, N, D), values (n, C) in the columns' units.

        measured (n, C) bool says which values are measurements; the others (repeated ones) do not count.

        Raises:
            DataError: too few rows, wrong shapes, NaN or infinity.
        """
        flat = states.detach().flatten(1)
        if flat.shape[1] != len(self.state_mean) or values.shape != (len(flat), len(self._columns)):
            raise DataError(
                f"states (n, {len(self.state_mean)}) and values (n, {len(self._columns)})",
                f"{tuple(flat.shape)} and {tuple(values.shape)}", "pass one row per labelled state",
            )
        known = torch.ones_like(values, dtype=torch.bool) if measured is None else measured
        if known.shape != values.shape or int(known.sum(0).min()) < 2:
            raise DataError(
                f"at least 2 measurements of each of {list(self._columns)}", f"{known.sum(0).tolist()}", "use more rows"
            )
        if len(flat) < 2 or not bool(torch.isfinite(flat).all() and torch.isfinite(values).all()):
            raise DataError("at least 2 finite rows", f"{len(flat)} rows, perhaps NaN", "label more states, drop NaN")
        self._standardise(flat)
        for columns, rows in together(known):
            mean, deviation = self.mean[columns], self.deviation[columns]
            standardise(values[rows][:, columns], mean, deviation)
            self.mean[columns], self.deviation[columns] = mean, deviation
        x = (flat - self.state_mean) / self.state_deviation
        self._fit(x, (values - self.mean) / self.deviation, known, seed)

    def _standardise(self, flat: Tensor) -> None:
        """Take the statistics of states (n, D); override it where entries share theirs."""
        standardise(flat, self.state_mean, self.state_deviation)

    @staticmethod
    def in_pieces(x: Tensor, read: Callable[[Tensor], Tensor], most: int = _ROWS) -> Tensor:
        """(…, D) -> (…, C), `most` rows (r, D) -> (r, C) at a time: kernels that stay in cache are three times as
        fast; a graph that is exported knows no number of rows."""
        rows = x.reshape(-1, x.shape[-1])
        pieces = [rows] if torch.compiler.is_compiling() else rows.split(most)
        return torch.cat([read(piece) for piece in pieces]).unflatten(0, x.shape[:-1])

    @abstractmethod
    def _decode(self, x: Tensor) -> Tensor:
        """Standardised states -> standardised values."""

    @abstractmethod
    def _fit(self, x: Tensor, y: Tensor, known: Tensor, seed: int) -> None:
        """Standardised states (n, D), values (n, C), which of them count (n, C)."""


def standardise(rows: Tensor, mean: Tensor, deviation: Tensor) -> None:
    """Write the statistics of `rows` (n, C) into `mean` and `deviation`; a constant column has deviation 1."""
    spread, centre = torch.std_mean(rows.double(), 0, correction=0)
    mean.copy_(centre)
    deviation.copy_(torch.where(spread > 1e-6 * (1 + centre.abs()), spread, 1.0))


def together(known: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Columns that are measured in the same rows: (columns (c,), rows (m,)) for each set of them."""
    if bool(known.all()):
        return [(torch.arange(known.shape[1]), torch.arange(len(known)))]
    kinds, which = known.mT.unique(dim=0, return_inverse=True)
    return [((which == i).nonzero()[:, 0], kind.nonzero()[:, 0]) for i, kind in enumerate(kinds)]


class LinearReadout(ColumnReadout):
    """y = W s + b by ridge regression in closed form, W = Yᵀ X (Xᵀ X + n λ I)⁻¹ on standardised X and Y.

    λ = 1e-6 by default: latents of an encoder trained with a variance term are well conditioned. `ridge=None` takes for
    every column the λ of `RIDGES` whose leave-one-out error is least (Allen 1974, PRESS; from one decomposition): for
    states of more numbers than there are labels, as states of many tokens are.
    """

    @register(Readout)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="linear"):
        """ridge is λ; None: chosen by leave-one-out."""

        ridge: float | None = 1e-6

        def __post_init__(self) -> None:
            if self.ridge is not None and not self.ridge >= 0:
                raise ConfigError("ridge >= 0, or none", f"{self.ridge}", "leave it out, or let it be chosen: None")

        def build(self, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> LinearReadout:
            return LinearReadout(columns, latent_shape, self.ridge)

    weight: Tensor

    def __init__(self, columns: tuple[str, ...], latent_shape: tuple[int, ...], ridge: float | None = 1e-6) -> None:
        super().__init__(columns, latent_shape)
        self.ridge = ridge
        self.register_buffer("weight", torch.zeros(len(columns), len(self.state_mean)))

    def _decode(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)

    def _fit(self, x: Tensor, y: Tensor, known: Tensor, seed: int) -> None:
        for columns, rows in together(known):
            a, b = x[rows].double(), y[rows][:, columns].double()
            if self.ridge is None:
                self.weight[columns] = chosen_ridge(a, b).mT.to(self.weight.dtype)
                continue
            gram = a.mT @ a + len(a) * self.ridge * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
            self.weight[columns] = torch.linalg.solve(gram, a.mT @ b).mT.to(self.weight.dtype)


def chosen_ridge(x: Tensor, y: Tensor) -> Tensor:
    """Weights (D, C) of ridge regression from x (n, D) to y (n, C), both centred, each column with a λ of `RIDGES`.

    With x xᵀ = U diag(e) Uᵀ, residuals are r = U (nλ / (e + nλ)) Uᵀ y, and the error of row i when it is left out is
    r_i / (1 - h_i), h_i = 1/n + Σ_j U_ij² e_j / (e_j + nλ); 1/n is the offset's, which x and y were centred by. Costs
    O(n² min(n, D) + n² D), whatever the number of λ.
    """
    n, size = x.shape
    if n <= size:
        e, basis = torch.linalg.eigh(x @ x.mT)
        e = e.clamp(min=0)
    else:
        basis, spread, _ = torch.linalg.svd(x, full_matrices=False)
        e = spread.square()
    along = basis.mT @ y
    best, weights = y.new_full((y.shape[1],), torch.inf), y.new_zeros(n, y.shape[1])
    for ridge in RIDGES:
        kept = e / (e + n * ridge)
        residual = y - basis @ (kept[:, None] * along)
        left = (1 - 1 / n - basis.square() @ kept).clamp(min=1e-9)
        error = (residual / left[:, None]).square().mean(0)
        better = error < best
        best = torch.where(better, error, best)
        weights = torch.where(better, residual / (n * ridge), weights)
    return x.mT @ weights


class MLPReadout(ColumnReadout):
    """y = MLP(s), squared error on standardised values, AdamW, cosine schedule."""

    @register(Readout)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mlp"):
        hidden: tuple[int, ...] = (128, 128)
        steps: int = 1000
        batch_size: int = 512
        lr: float = 3e-3
        weight_decay: float = 1e-4

        def build(self, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> MLPReadout:
            return MLPReadout(self, columns, latent_shape)

    def __init__(self, config: Config, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> None:
        super().__init__(columns, latent_shape)
        self.config = config
        self.network = mlp([len(self.state_mean), *config.hidden, len(columns)])

    def _decode(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y

    def _fit(self, x: Tensor, y: Tensor, known: Tensor, seed: int) -> None:
        config, generator = self.config, torch.Generator().manual_seed(seed)

        def loss() -> Tensor:
            rows = torch.randint(len(x), (min(config.batch_size, len(x)),), generator=generator).to(x.device)
            errors, counted = (self.network(x[rows]) - y[rows]).square(), known[rows]
            return (errors * counted).sum() / counted.sum().clamp(min=1)

        fit(self.network, loss, generator, steps=config.steps, lr=config.lr, decay=config.weight_decay)


class KernelReadout(ColumnReadout):
    """y = Σ_j α_j k(s, c_j), k(s, c) = exp(-|s - c|² / (2 ℓ² D)) on standardised states: kernel ridge regression.

    The centres c are `centres` of the fitted rows, drawn at random (all, if there are no more):
    α = (Kᵀ K + λ K_c)⁻¹ Kᵀ Y. Closed form, a few milliseconds. Best for few labels: on 300 of them the median error of
    a position is two thirds of the perceptron's (figures in LOG.md).

    Source: subset of regressors, Rasmussen & Williams 2006, section 8.3.1; ℓ and λ measured on two rooms.
    """

    @register(Readout)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="kernel"):
        """length is ℓ, ridge is λ."""

        centres: int = 300
        length: float = 1.0
        ridge: float = 3e-3

        def build(self, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> KernelReadout:
            return KernelReadout(self, columns, latent_shape)

    centre: Tensor
    weight: Tensor

    def __init__(self, config: Config, columns: tuple[str, ...], latent_shape: tuple[int, ...]) -> None:
        super().__init__(columns, latent_shape)
        if config.centres < 1 or not config.length > 0 or not config.ridge > 0:
            raise ConfigError("centres, length and ridge above 0", f"{config}", "raise them")
        self.config = config
        self.register_buffer("centre", torch.zeros(config.centres, len(self.state_mean)))
        self.register_buffer("weight", torch.zeros(config.centres, len(columns)))

    def _decode(self, x: Tensor) -> Tensor:
        return self.in_pieces(x, lambda rows: self._kernel(rows, self.centre) @ self.weight)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """(n, D), (m, D) -> (n, m)."""
        scale = 1 / (self.config.length**2 * a.shape[-1])
        half = -0.5 * scale * a.square().sum(1, keepdim=True) - 0.5 * scale * b.square().sum(1)
        return torch.addmm(half, a, b.mT, alpha=scale).clamp_max_(0).exp_()

    def _fit(self, x: Tensor, y: Tensor, known: Tensor, seed: int) -> None:
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: self.config.centres].to(x.device)
        x, y = x.double(), y.double()
        across, within = self._kernel(x, x[rows]), self._kernel(x[rows], x[rows])
        self.centre.zero_()[: len(rows)] = x[rows].to(self.centre.dtype)
        self.weight.zero_()
        for columns, counted in together(known):
            kernel = across[counted]
            gram = kernel.mT @ kernel + self.config.ridge * within
            gram.diagonal().add_(1e-8 * len(kernel))
            solved = torch.linalg.solve(gram, kernel.mT @ y[counted][:, columns])
            self.weight[: len(rows), columns] = solved.to(self.weight.dtype)
