"""A few gradient steps on what just happened: the corrector that `agent.learn` asks for an update.

Knows boxes only through core's interfaces, the experience as windows. Knows nothing of acting, guards or journals.

Shapes: B windows, L steps.
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.corrector import Corrector, Update
from steersman.core.errors import ConfigError, DataError
from steersman.core.learning import Acted, Encoded, Rollouts
from steersman.core.parts import ObjectiveConfig, register
from steersman.core.signature import Signature
from steersman.core.types import Window
from steersman.core.world_model import WorldModel
from steersman.data.experience import ExperienceWindows
from steersman.nn import AdamW
from steersman.objectives import Prediction, Sum
from steersman.runs import Run
from steersman.runs.experience import read_index
from steersman.training.loop import open_log, stored_config
from steersman.training.making import imagine_windows
from steersman.training.parts import split
from steersman.training.source import Sampler, WindowSource
from steersman.training.undoing import Undoing, seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Module = Literal["perception", "world_model"]


class GradientCorrector(Corrector):
    """θ ← θ - AdamW(∇E) for `steps` steps, on windows of the last `reach` moments and a share of the run's own log.

    E is the sum of `objectives` over B windows of L steps, of which round(replay·B) come from the log that the weights
    were trained on (what is held out stays out). Parts are in evaluation mode: nothing is dropped out, no statistics
    change. The moments of AdamW begin anew with each update, windows and whatever objectives draw come from (seed,
    number of the update, step): an update is a function of the weights, the moments [through - reach, through) of the
    experience, its number and the Config, bit for bit on as many threads.

    Nothing is proposed, with a `reason`, where no window fits into what was experienced lately, or where the loss is
    not finite.
    """

    @register(Corrector)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gradient"):
        """modules  what changes. Perception as well only with an objective that prevents collapse beside prediction;
                    then read-outs and fitted costs no longer fit the latents that they were fitted to
        objectives  energies without parameters of their own
        steps     optimiser steps of an update; windows  B of each
        lr, clip  of AdamW, a tenth of `TrainConfig`'s; no weight decay. Largest norm of the gradient
        window    L: steps of a window, its history included
        reach     newest moments of the experience that are learned from
        replay    share of the windows that comes from the run's own log, in [0, 1)
        undo      updates that can be taken back; each keeps a copy of what it changed
        """

        modules: tuple[Module, ...] = ("world_model",)
        objectives: tuple[ObjectiveConfig, ...] = (Prediction.Config(),)
        steps: int = 4
        windows: int = 32
        lr: float = 3e-4
        clip: float = 1.0
        window: int = 8
        reach: int = 1000
        replay: float = 0.5
        undo: int = 1
        seed: int = 0

        def __post_init__(self) -> None:
            for name in ("steps", "windows", "window", "undo"):
                _require(getattr(self, name) >= 1, f"{name} of at least 1", getattr(self, name), "raise it")
            _require(self.reach > self.window, f"a reach above the window of {self.window}", self.reach, "raise it")
            _require(self.lr > 0 and self.clip > 0, "lr and clip above 0", (self.lr, self.clip), "raise it")
            _require(0 <= self.replay < 1, "replay in [0, 1)", self.replay, "use .5, or 0")
            _require(self.seed >= 0, "seed of at least 0", self.seed, "raise it")
            _require(len(self.objectives) > 0, "at least one objective", "none", "use Prediction.Config()")
            _require(len(set(self.modules)) == len(self.modules) > 0, "modules, each once", self.modules, "name some")
            alone = all(isinstance(x, Prediction.Config) for x in self.objectives)
            _require("perception" not in self.modules or not alone,
                     "an objective that prevents collapse where perception learns", "prediction alone",
                     "add objectives.VICReg.Config() or SIGReg.Config(), or leave perception out of `modules`")

        def build(self, perception: Perception, world_model: WorldModel, run: Path) -> GradientCorrector:
            """For the weights of a run. Raises DataError: `replay`, and the run's log is not there any more."""
            opened = Run.open(run)
            stored = stored_config(opened)
            log = split(stored, open_log(opened))[0] if self.replay else None
            signature = msgspec.convert(opened.manifest.data["signature"], Signature)
            return GradientCorrector(self, signature, perception, world_model, stored.agent.history, log)

    def __init__(
        self, config: Config, signature: Signature, perception: Perception, world_model: WorldModel, history: int = 1,
        log: WindowSource | None = None,
    ) -> None:
        """log: what `replay` draws from.

        Raises:
            ConfigError: objectives with parameters, a window without a step after its history, `replay` and no log.
        """
        _require(config.window >= history, f"a window of at least {history} steps", config.window, "lengthen it")
        _require(log is not None or not config.replay, "the log that the weights were trained on", "none",
                 "give it, or set replay = 0")
        self._config, self.signature, self.history, self.log = config, signature, history, log
        self._parts = nn.ModuleDict({"perception": perception, "world_model": world_model})
        self._energy = Sum.build(config.objectives, signature, perception.latent_shape, perception.context_shape)
        names = [name for name, _ in self._energy.named_parameters()]
        _require(not names, "objectives without parameters of their own", ", ".join(names), "leave those out")
        more = [need.name for need in self._energy.needs if not isinstance(need, (Encoded, Rollouts, Acted))]
        _require(not more, "objectives that need moments, rollouts and actions", ", ".join(more), "leave those out")
        self._undoing, self._reason = Undoing(dict(self._parts.items()), config.undo), ""

    @property
    def config(self) -> Config:
        return self._config

    @property
    def updates(self) -> int:
        return self._undoing.updates

    @property
    def reason(self) -> str:
        return self._reason

    def stand_at(self, updates: int) -> None:
        self._undoing.stand_at(updates)

    # Working out an update -----------------------------------------------------------------------------------------

    def propose(self, experience: Path, through: int) -> Update | None:
        config, number = self._config, self._undoing.updates + 1
        since = max(through - config.reach, read_index(experience).first)
        lived = ExperienceWindows(experience, since, through)
        lived.signature.require(self.signature, f"the experience in {experience}", "the weights")
        try:
            fresh = Sampler(lived.lengths, config.window, self._share(False), seed_of(config.seed, number, 0), False)
        except DataError as error:
            self._reason = f"no {error.expected} since moment {since}: {error.got}"
            return None
        old = None if self.log is None or not config.replay or not self._share(True) else Sampler(
            self.log.lengths, config.window, self._share(True), seed_of(config.seed, number, 1), False)
        with torch.inference_mode(False), torch.enable_grad(), _seeded(seed_of(config.seed, number, 2)):
            parts = copy.deepcopy(self._parts).eval().requires_grad_(False)
            for name in config.modules:
                parts[name].requires_grad_(True)
            probe = lived.windows(*fresh.draw(-1), config.window)
            told = {"loss before": self._probe(parts, probe)}
            optimiser = AdamW(parts.named_parameters(), decay=0.0)
            for step in range(config.steps):
                size = self._descend(parts, optimiser, lived, fresh, old, step)
                if not math.isfinite(size):
                    self._reason = f"loss or gradient of {size:g} in step {step + 1}"
                    return None
            told["loss after"] = self._probe(parts, probe)
        self._reason = ""
        return Update(number, _changed(self._parts, parts), through, since, told)

    def _share(self, replayed: bool) -> int:
        """Windows of a step that come from the run's own log, or from the experience: at least one of these."""
        again = min(round(self._config.replay * self._config.windows), self._config.windows - 1)
        return again if replayed else self._config.windows - again

    def _descend(
        self, parts: nn.ModuleDict, optimiser: AdamW, lived: ExperienceWindows, fresh: Sampler, old: Sampler | None,
        step: int,
    ) -> float:
        """One step; the norm of the gradient, or what was not finite."""
        pieces = [self._weighed(parts, lived.windows(*fresh.draw(step), self._config.window))]
        if old is not None and self.log is not None:
            pieces.append(self._weighed(parts, self.log.windows(*old.draw(step), self._config.window)))
        loss = torch.stack(pieces).sum()
        torch.autograd.backward(loss)
        norm = float(torch.nn.utils.clip_grad_norm_(optimiser.parameters, self._config.clip))
        if math.isfinite(norm) and math.isfinite(float(loss.detach())):
            optimiser.step(self._config.lr)
        optimiser.forget_gradients()
        return norm if math.isfinite(float(loss.detach())) else float(loss.detach())

    def _weighed(self, parts: nn.ModuleDict, window: Window) -> Tensor:
        """The energy of some windows, weighed by how many of all they are."""
        return len(window) / self._config.windows * self._loss(parts, window)

    def _loss(self, parts: nn.ModuleDict, window: Window) -> Tensor:
        device = next(parts.parameters()).device
        starts = torch.tensor([self.history - 1], device=device)
        perception, model = cast(Perception, parts["perception"]), cast(WorldModel, parts["world_model"])
        batch = imagine_windows(
            perception, model, window.to(device), starts, self._config.window - self.history + 1, self.history)
        return self._energy(batch).total

    def _probe(self, parts: nn.ModuleDict, window: Window) -> float:
        with torch.no_grad():
            return float(self._loss(parts, window))

    # Making it -----------------------------------------------------------------------------------------------------

    def accept(self, update: Update) -> None:
        self._undoing.accept(update)

    def roll_back(self) -> None:
        self._undoing.roll_back()


def _changed(before: nn.Module, after: nn.Module) -> dict[str, Tensor]:
    old = before.state_dict()
    return {name: x.detach().clone() for name, x in after.state_dict().items() if not torch.equal(x, old[name])}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's generator seeded for the time of an update; the caller's state comes back."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        yield


def _require(fine: bool, expected: str, got: Any, fix: str) -> None:
    if not fine:
        raise ConfigError(expected, f"{got}", fix)
