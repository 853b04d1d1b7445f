"""A guardrail on where a log has been: columns whose values, taken together, no logged moment shows are refused.

Knows columns, not what follows from them: what is noisy and well known is as familiar as what is still.

Shapes: n moments, C columns, U units (episodes); B problems, K candidates, H horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.conformal import conformal_quantile, grouped_quantile, labels_needed
from steersman.cost.on_columns import columns_needed
from steersman.nn import fit, mlp


class Logged(Guardrail):
    """g(s) = f(y(s)) - τ: log-odds of "elsewhere" against "in the log", less a threshold that logged moments keep.

        f ≈ log p_reference(y) / p_log(y),  the optimum of a logistic loss;  y the standardised columns of a state
        reference: every column of another logged moment, then stretched away from the mean by 1 to 1 + `stretch`
        τ = conformal quantile at `level` of f over held-out logged moments

    A moment of the reference is made of values each of which was logged; together they may never have been. So f is
    high in holes and beyond the ends of the log, and a new logged moment is refused with probability at most 1 - level.
    It is a density ratio of states alone: the scatter of what follows does not enter, so doubt is not chance.

    It judges the state after each step. From where the log never was it asks for steps that lead back, g(s') <= g(s).
    Use it for columns that a log covers well: 4 to 10; every further one makes the log thinner.

    Source: density ratios by classification, Gutmann & Hyvärinen 2010, "Noise-contrastive estimation"; the product of
    the marginals as reference is that of Friedman, Hastie & Tibshirani 2009, "Elements", section 14.2.4.
    """

    name: str = ""

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """How the classifier is trained; defaults measured in docs/doubt.md's world: narrower or shorter ones do not
        resolve a hole of a tenth of the log's extent."""

        hidden: tuple[int, ...] = (128, 128)
        steps: int = 3000
        batch_size: int = 512
        lr: float = 1e-2
        weight_decay: float = 1e-4
        stretch: float = 0.5

    @register(Guardrail)
    class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="logged"):
        """A fitted one beside its tensors, as an agent keeps it."""

        columns: tuple[str, ...]
        hidden: tuple[int, ...]
        threshold: float
        level: float
        name: str = "logged"

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> Logged:
            """Nothing is allocated but what the tensors vouch for."""
            sizes = [len(self.columns), *self.hidden, 1]
            shapes = {"mean": sizes[:1], "deviation": sizes[:1]}
            for number, (fan_in, fan_out) in enumerate(pairwise(sizes[: len(tensors)])):
                shapes |= {f"network.{2 * number}.weight": [fan_out, fan_in], f"network.{2 * number}.bias": [fan_out]}
            found = {name: list(tensor.shape) for name, tensor in tensors.items()}
            if found != shapes or not 0 < self.level < 1:
                raise PlanningError(f"a classifier of {sizes[:8]} numbers and a level between 0 and 1",
                                    f"{dict(list(found.items())[:8])}, {self.level}", "fit the guardrail again")
            network = mlp(sizes)
            network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if "." in k})
            return Logged(columns_needed(readout, self.name), self.columns, network.requires_grad_(False).eval(),
                          tensors["mean"], tensors["deviation"], threshold=self.threshold, level=self.level,
                          name=self.name)

    def __init__(
        self, readout: Readout, columns: Sequence[str], network: nn.Module, mean: Tensor, deviation: Tensor, *,
        threshold: float, level: float, name: str = "logged",
    ) -> None:
        """As `fit` builds it."""
        missing = [column for column in columns if column not in readout.columns]
        if missing or not columns:
            raise PlanningError(f"columns among {', '.join(readout.columns)}", ", ".join(missing) or "none",
                                "correct the names")
        self.readout, self.columns, self.network = readout, tuple(columns), network
        self.mean, self.deviation, self.threshold, self.level, self.name = mean, deviation, threshold, level, name
        self._index = [readout.columns.index(column) for column in columns]

    @classmethod
    def fit(
        cls, readout: Readout, learned: Tensor, held_out: Tensor, *, columns: Sequence[str] = (), level: float = 0.99,
        unit: Tensor | None = None, seed: int = 0, name: str = "logged", config: Config | None = None,
    ) -> Logged:
        """Tell logged moments from made-up ones; then take the threshold from moments that nothing was learned from.

        learned   (n, C') values of all the read-out's columns at logged moments
        held_out  (m, C') the same of other episodes; unit (m,) int: the episode of each
        columns   which of them; none named: all

        Raises:
            PlanningError: shapes that do not fit, values that are not finite, or too few episodes for this level.
        """
        config, columns = config or cls.Config(), tuple(columns) or readout.columns
        wide = len(readout.columns)
        sound = all(x.ndim == 2 and x.shape[1] == wide and len(x) and bool(torch.isfinite(x).all())
                    for x in (learned, held_out))
        if not sound:
            raise PlanningError(f"finite moments (n, {wide}), learned and held out",
                                f"{tuple(learned.shape)} and {tuple(held_out.shape)}", "pass columns of a log")
        deviation, mean = torch.std_mean(learned.float(), 0, correction=0)
        deviation = torch.where(deviation > 1e-6, deviation, 1.0)
        made = cls(readout, columns, mlp([len(columns), *config.hidden, 1]), mean, deviation, threshold=0.0,
                   level=level, name=name)
        made.mean, made.deviation = mean[made._index], deviation[made._index]
        _train(made.network, made._standardised(learned), config, torch.Generator().manual_seed(seed))
        made.network.requires_grad_(False).eval()
        odds = made._odds(held_out)
        quantile = conformal_quantile(odds, level) if unit is None else float(
            grouped_quantile(odds[:, None], unit, level)[0])
        if not math.isfinite(quantile):
            raise PlanningError(f"at least {labels_needed(level)} held-out episodes for a level of {level:.4g}",
                                f"{len(odds) if unit is None else len(unit.unique())}",
                                "hold out more, or ask for a lower level")
        made.threshold = quantile
        return made

    @property
    def config(self) -> Fitted:
        """What builds it again, with its tensors and a read-out."""
        layers = [x for x in self.network.modules() if isinstance(x, nn.Linear)]
        return self.Fitted(columns=self.columns, hidden=tuple(x.out_features for x in layers[:-1]),
                           threshold=self.threshold, level=self.level, name=self.name)

    def tensors(self) -> Mapping[str, Tensor]:
        network = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return {"mean": self.mean, "deviation": self.deviation, **network}

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        level = self.standing(imagined.states, imagined.context)
        before, after = level[:, :, :-1], level[:, :, 1:]
        return torch.where(before > 0, after - before, after)

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        return self._odds(self.readout.read(states, context)) - self.threshold

    def _standardised(self, values: Tensor) -> Tensor:
        return (values[..., self._index].to(self.mean) - self.mean) / self.deviation

    def _odds(self, values: Tensor) -> Tensor:
        odds: Tensor = self.network(self._standardised(values))
        return odds[..., 0]


def _train(network: nn.Module, seen: Tensor, config: Logged.Config, generator: torch.Generator) -> None:
    """seen (n, C) standardised."""
    rows, size = seen.shape

    def loss() -> Tensor:
        draw = torch.randint(rows, (config.batch_size, size + 1), generator=generator)
        mixed = seen[draw[:, 1:], torch.arange(size)]
        mixed = mixed * (1 + config.stretch * torch.rand(len(mixed), 1, generator=generator))
        inside, elsewhere = network(torch.cat([seen[draw[:, 0]], mixed])).chunk(2)
        return nn.functional.softplus(inside).mean() + nn.functional.softplus(-elsewhere).mean()

    fit(network, loss, generator, steps=config.steps, lr=config.lr, decay=config.weight_decay)
