"""A guardrail learned from labelled bad states: what cannot be named as a column, but can be pointed at.

Knows latents only, of pixels as of vectors. Shapes: n labels, S versions of each, D latent size, U units (episodes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import ConfigError, Guardrail, Imagined, PlanningError, Readout, register
from steersman.cost.conformal import conformal_quantile, grouped_quantile, labels_needed
from steersman.nn import fit, mlp


class BadStates(Guardrail):
    """g(s) = f(s) - τ: a classifier's log-odds of "bad", less a threshold that a stated share of bad states exceeds.

    f is a perceptron on standardised latents, trained with a logistic loss that weighs both classes alike. τ is
    conformal: of the bad labels that f did not see it is the least value for which a new bad state, exchangeable with
    them, has f(s) > τ with probability >= `share`. What it costs is `good_refused`, the share of good labels kept
    aside that are refused too: a good guardrail has it near 0.

    Make one with `BadStates.fit`. It judges the state after each step; its level is g itself, so that a barrier can
    slow down before the limit; it is differentiable.

    It knows what bad states look like that it was shown. Where nothing was ever labelled it says nothing: keep plans
    inside what the model knows (`DisagreementCost`), or limit columns.
    """

    name: str = ""

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """How the classifier is trained; `held_out`: share of the labels that thresholds are taken from."""

        hidden: tuple[int, ...] = (64, 64)
        steps: int = 300
        batch_size: int = 256
        lr: float = 1e-2
        weight_decay: float = 0.1
        held_out: float = 0.5

    @register(Guardrail)
    class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="bad-states"):
        """A fitted one beside its tensors, as an agent keeps it; good_refused None: no good label was kept aside."""

        hidden: tuple[int, ...]
        share: float
        threshold: float
        good_refused: float | None = None
        name: str = "bad states"

        def build(
            self, readout: Readout | None, latent_shape: tuple[int, ...], tensors: Mapping[str, Tensor]
        ) -> BadStates:
            """Nothing is allocated but what the tensors vouch for."""
            sizes = [math.prod(latent_shape), *self.hidden, 1]
            shapes = {"mean": sizes[:1], "deviation": sizes[:1]}
            for number, (fan_in, fan_out) in enumerate(pairwise(sizes[: len(tensors)])):
                shapes |= {f"network.{2 * number}.weight": [fan_out, fan_in], f"network.{2 * number}.bias": [fan_out]}
            found = {name: list(tensor.shape) for name, tensor in tensors.items()}
            if found != shapes or not 0 < self.share < 1:
                raise PlanningError(f"a classifier of {sizes[:8]} numbers and a share between 0 and 1",
                                    f"{dict(list(found.items())[:8])}, {self.share}", "fit the guardrail again")
            network = mlp(sizes)
            network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if "." in k})
            rail = BadStates(network.requires_grad_(False).eval(), tensors["mean"], tensors["deviation"], latent_shape,
                             share=self.share, name=self.name)
            rail.threshold = self.threshold
            rail.good_refused = math.nan if self.good_refused is None else self.good_refused
            return rail

    def __init__(
        self, network: nn.Module, mean: Tensor, deviation: Tensor, latent_shape: tuple[int, ...], *, share: float,
        name: str = "bad states",
    ) -> None:
        """As `fit` builds it; τ is minus infinity until it is calibrated: nothing is safe."""
        self.network, self.mean, self.deviation = network, mean, deviation
        self.latent_shape, self.share, self.threshold, self.good_refused = latent_shape, share, -math.inf, math.nan
        self.name = name

    @classmethod
    def fit(
        cls,
        states: Tensor,
        bad: Tensor,
        *,
        latent_shape: tuple[int, ...] | None = None,
        unit: Tensor | None = None,
        share: float = 0.99,
        seed: int = 0,
        name: str = "bad states",
        config: Config | None = None,
    ) -> BadStates:
        """Train and calibrate on disjoint halves of the labels.

        states        (n, D) latents of labelled moments; or (n, S, D): S versions of each, for instance encoded and
                      imagined from 1, 2, … steps before. A label then counts as refused only if all its versions are
        bad           (n,) bool
        latent_shape  of one state, if it is not a vector: states are (n, S, *latent_shape)
        unit          (n,) int: the episode of each label; halves are then made of whole episodes, and the promise is
                      for a random bad moment of a new episode
        share         of bad states that are to be refused

        Raises:
            PlanningError: shapes that do not fit, NaN, one class only, or too few bad labels for this share.
        """
        config = config or cls.Config()
        shape = latent_shape or states.shape[-1:]
        rows = states.detach().float().reshape(len(states), -1, math.prod(shape))
        if bad.shape != states.shape[:1] or bad.dtype != torch.bool or not bool(torch.isfinite(rows).all()):
            raise PlanningError("finite states (n, …) and a truth value for each", f"{tuple(states.shape)} and "
                                f"{tuple(bad.shape)} {bad.dtype}", "label each state True (bad) or False")
        generator = torch.Generator().manual_seed(seed)
        aside = _split(torch.arange(len(bad)) if unit is None else unit, bad, config.held_out, generator)
        for part, words in ((bad[~aside], "to learn from"), (bad[aside], "kept aside")):
            if not bool(part.any()) or bool(part.all()):
                raise PlanningError(f"bad and good states among those {words}", f"{int(part.sum())} of {len(part)} bad",
                                    "label more of both")
        deviation, mean = torch.std_mean(rows[~aside].flatten(0, 1), 0, correction=0)
        deviation = torch.where(deviation > 1e-6, deviation, 1.0)
        network = mlp([rows.shape[-1], *config.hidden, 1])
        _train(network, (rows[~aside] - mean) / deviation, bad[~aside], config, generator)
        rail = cls(network.requires_grad_(False).eval(), mean, deviation, tuple(shape), share=share, name=name)
        rail._calibrate(rows[aside], bad[aside], None if unit is None else unit[aside])
        return rail

    def _calibrate(self, rows: Tensor, bad: Tensor, unit: Tensor | None) -> None:
        odds = self._odds(rows).amin(1)  # of the version that looks best
        if unit is None:
            quantile = conformal_quantile(-odds[bad], self.share)
        else:
            quantile = float(grouped_quantile(-odds[bad, None], unit[bad], self.share)[0])
        if not math.isfinite(quantile):
            count = int(bad.sum()) if unit is None else len(unit[bad].unique())
            what = "bad labels" if unit is None else "episodes with bad labels"
            raise PlanningError(f"at least {labels_needed(self.share)} {what} kept aside to refuse {self.share:.1%}",
                                f"{count}", "label more, or ask for a lower share")
        # the state that sets the threshold is refused itself
        self.threshold = float(torch.nextafter(torch.tensor(-quantile), torch.tensor(-math.inf)))
        self.good_refused = float((odds[~bad] > self.threshold).float().mean())

    @property
    def config(self) -> Fitted:
        """What builds it again, with its tensors.

        Raises:
            ConfigError: it was not fitted.
        """
        if not math.isfinite(self.threshold):
            raise ConfigError(f"a fitted guardrail {self.name!r}", "one without a threshold", "use BadStates.fit")
        layers = [x for x in self.network.modules() if isinstance(x, nn.Linear)]
        good = None if math.isnan(self.good_refused) else self.good_refused
        return self.Fitted(hidden=tuple(x.out_features for x in layers[:-1]), share=self.share,
                           threshold=self.threshold, good_refused=good, name=self.name)

    def tensors(self) -> Mapping[str, Tensor]:
        network = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return {"mean": self.mean, "deviation": self.deviation, **network}

    def margin(self, imagined: Imagined, actions: Tensor) -> Tensor:
        return self.standing(imagined.states[:, :, 1:])

    def standing(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        rank = len(self.latent_shape)
        return self._odds(states.flatten(-rank) if rank > 1 else states) - self.threshold

    def _odds(self, rows: Tensor) -> Tensor:
        odds: Tensor = self.network((rows.to(self.mean) - self.mean) / self.deviation)
        return odds[..., 0]


def _split(unit: Tensor, bad: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """(n,) bool: the labels of a share of the units; units with bad labels and those without are dealt apart."""
    numbers, index = unit.unique(return_inverse=True)
    has_bad = torch.zeros(len(numbers), dtype=torch.bool).index_put_((index[bad],), torch.tensor(True))
    aside = torch.zeros(len(numbers), dtype=torch.bool)
    for kind in (has_bad, ~has_bad):
        members = kind.nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        aside[members[: round(share * len(members))]] = True
    return aside[index]


def _train(
    network: nn.Module, x: Tensor, bad: Tensor, config: BadStates.Config, generator: torch.Generator
) -> None:
    """x (n, S, D) standardised. Every batch holds as many bad as good labels, a version of each drawn at random."""
    kinds, half = (bad.nonzero()[:, 0], (~bad).nonzero()[:, 0]), config.batch_size // 2
    target = torch.cat([torch.ones(half), torch.zeros(half)])

    def loss() -> Tensor:
        rows = torch.cat([kind[torch.randint(len(kind), (half,), generator=generator)] for kind in kinds])
        version = torch.randint(x.shape[1], (2 * half,), generator=generator)
        odds = network(x[rows, version])[:, 0]
        return nn.functional.binary_cross_entropy_with_logits(odds, target)

    fit(network, loss, generator, steps=config.steps, lr=config.lr, decay=config.weight_decay)
