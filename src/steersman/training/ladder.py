"""Few numbers first: the corrector that asks what the least change of a model is that explains what just happened.

Knows boxes only through core's interfaces, the experience as windows. Knows nothing of acting, guards or journals.

Shapes: B windows, L steps, D latent size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from steersman.core.boxes import Perception
from steersman.core.corrector import Corrector, Update
from steersman.core.errors import ConfigError
from steersman.core.learning import Encoded, Rollouts
from steersman.core.parts import register
from steersman.core.signature import Signature
from steersman.core.types import Window
from steersman.core.world_model import WorldModel
from steersman.data.experience import ExperienceWindows
from steersman.nn import ActionEmbedding
from steersman.runs import Run
from steersman.runs.experience import ExperienceReader, read_index
from steersman.training.loop import open_log, stored_config
from steersman.training.making import imagine_windows
from steersman.training.parts import split
from steersman.training.source import Sampler, WindowSource
from steersman.training.undoing import Undoing, seed_of

ACTIONS = "actions"
"""The rung of how strongly actions act: scale and offset by which a world model's networks see each of them."""


@dataclass(frozen=True)
class _Fitted:
    """What one rung gave. error  of the newest moments, which it was not fitted to; weights  name -> new value."""

    name: str
    error: float
    weights: Mapping[str, Tensor]


class LadderCorrector(Corrector):
    """The lowest rung of a ladder that explains the newest moments: few numbers first, all weights last.

    A rung is a set of tensors of the world model. For each rung r and each reach n,

        θ_r = argmin  mean |s_h - ŝ_h(θ)|² over windows of L steps of the last n moments, all but the newest `newest`
                      + stay · mean |ŝ_h(θ) - ŝ_h(θ_now)|² over `windows` windows of the run's own log

    by `iterations` of L-BFGS; the perception stays, so the latents that are to be foreseen are given. The second term
    is a share of replay, in the space of functions: what a world that changed says of old moments is no longer true,
    so the model's own present answers stand for the log's, and where the new moments say nothing it keeps them. What is
    proposed is the rung with the least error on the newest moments, which none was fitted to; a higher rung, or a
    longer reach, must be better by the share `better`, and so must any of them than the weights as they are. It is then
    fitted to the newest moments as well.

    A world that weighs more, or pushes less, is told by a few dozen moments if the question is how strongly actions
    act (the rung "actions"), and by a few hundred if it is put to every weight (LOG.md). An update is a function of the
    weights, the moments [through - n, through) of the experience, its number and the Config, bit for bit on as many
    threads. Nothing is proposed, with a `reason`, where nothing is better, or too few moments were lived.

    Sources: a ladder of models of growing size, the smallest that is not refuted: structural risk minimisation, Vapnik
    1998, chapter 6, here by held-out error; keeping a network's answers while it learns others: Li & Hoiem 2016,
    "Learning without forgetting".
    """

    @register(Corrector)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ladder"):
        """rungs   each a tuple of names: "actions", or beginnings of names of the world model's tensors
                   ("to_change"; "": all of them)
        reaches    newest moments of the experience that are fitted, of each of the episodes side by side, the shortest
                   first: after a change, the moments before it speak of another world
        newest     moments, of each reach the last, that decide which rung it is
        window     L: steps of a window, its history included
        windows    at most so many windows are fitted, and of the log so many are drawn
        stay       weight of the present answers on the log, 0: none
        better     share by which an error must fall for a step up the ladder
        iterations of L-BFGS, a rung
        undo       updates that can be taken back; each keeps a copy of what it changed
        """

        rungs: tuple[tuple[str, ...], ...] = ((ACTIONS,), ("",))
        reaches: tuple[int, ...] = (24, 72)
        newest: int = 8
        window: int = 4
        windows: int = 128
        stay: float = 0.1
        better: float = 0.1
        iterations: int = 15
        undo: int = 1
        seed: int = 0

        def __post_init__(self) -> None:
            for name in ("newest", "window", "windows", "iterations", "undo"):
                _require(getattr(self, name) >= 1, f"{name} of at least 1", getattr(self, name), "raise it")
            _require(len(self.rungs) > 0 and all(self.rungs), "rungs of at least one name", self.rungs, "name some")
            _require(len(self.reaches) > 0 and list(self.reaches) == sorted(set(self.reaches)),
                     "reaches, each above the one before", self.reaches, "sort them")
            least = self.newest + self.window + 1
            _require(self.reaches[0] > least, f"reaches above newest + window + 1, {least}", self.reaches, "raise them")
            _require(self.stay >= 0 and 0 <= self.better < 1, "stay >= 0 and better in [0, 1)",
                     (self.stay, self.better), "use .1 and .1")
            _require(self.seed >= 0, "seed of at least 0", self.seed, "raise it")

        def build(self, perception: Perception, world_model: WorldModel, run: Path) -> LadderCorrector:
            """For the weights of a run. Raises DataError: `stay`, and the run's log is not there any more."""
            opened = Run.open(run)
            stored = stored_config(opened)
            log = split(stored, open_log(opened))[0] if self.stay else None
            signature = msgspec.convert(opened.manifest.data["signature"], Signature)
            return LadderCorrector(self, signature, perception, world_model, stored.agent.history, log)

    def __init__(
        self, config: Config, signature: Signature, perception: Perception, world_model: WorldModel, history: int = 1,
        log: WindowSource | None = None,
    ) -> None:
        """log: what the present answers are kept on.

        Raises:
            ConfigError: a window without a step after its history, `stay` and no log, a rung without tensors.
        """
        _require(config.window >= history, f"a window of at least {history} steps", config.window, "lengthen it")
        _require(log is not None or not config.stay, "the log that the weights were trained on", "none",
                 "give it, or set stay = 0")
        self._config, self.signature, self.history, self.log = config, signature, history, log
        self._perception, self._model = perception, world_model
        for rung in config.rungs:
            _require(len(_tensors(world_model, rung)) > 0, f"tensors of the world model in the rung {rung}", "none",
                     f"name beginnings of {', '.join(list(world_model.state_dict())[:6])}, …")
        self._undoing, self._reason = Undoing({"world_model": world_model}, config.undo), ""

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
        first, number = read_index(experience).first, self._undoing.updates + 1
        beside, looked = _beside(experience, first, through, self._config.reaches[0])
        with torch.inference_mode(False), torch.enable_grad():
            found = list(self._climb(experience, first, through, number, beside))
            if not found:
                self._reason = f"no {self._config.newest + self._config.window + 1} moments in a row before {through}"
                return None
            now, best = found[0], found[0]
            for one in found[1:]:
                if math.isfinite(one.error) and one.error < (1 - self._config.better) * best.error:
                    best = one
            if best is now:
                self._reason = f"nothing explains the newest moments better than the weights do ({now.error:.3g})"
                return None
            rung, reach = (int(x) for x in best.name.split())
            since = max(through - beside * reach, first)
            lived = ExperienceWindows(experience, since, through)
            model, tensors = self._copy(rung)
            self._fit(model, tensors, self._windows(lived, 0, number), number)
        weights = {f"world_model.{name}": x.detach().clone() for name, x in tensors.items()}
        if not all(bool(x.isfinite().all()) for x in weights.values()):
            self._reason = f"rung {rung} does not come to finite weights"
            return None
        self._reason = ""
        told = {"error before": now.error, "error after": best.error, "rung": float(rung), "reach": float(reach)}
        return Update(number, weights, through, min(since, looked), told)

    def _climb(self, experience: Path, first: int, through: int, number: int, beside: int) -> Iterator[_Fitted]:
        """The weights as they are, then every rung with every reach, judged on the newest moments."""
        config = self._config
        begin = max(through - beside * (config.newest + config.window), first)
        newest = self._windows(ExperienceWindows(experience, begin, through), 0, number)
        if newest is None:
            return
        yield _Fitted("", self._error(self._model, newest), {})
        for rung in range(len(config.rungs)):
            for reach in config.reaches:
                lived = ExperienceWindows(
                    experience, max(through - beside * reach, first), through - beside * config.newest)
                windows = self._windows(lived, 0, number)
                if windows is None:
                    continue
                model, tensors = self._copy(rung)
                self._fit(model, tensors, windows, number)
                yield _Fitted(f"{rung} {reach}", self._error(model, newest), tensors)

    def _windows(self, lived: ExperienceWindows, use: int, number: int) -> Window | None:
        """All windows of L steps, or `windows` of them drawn; None: none fits."""
        lived.signature.require(self.signature, "the experience", "the weights")
        config = self._config
        fits = (lived.lengths - config.window + 1).clamp(min=0)
        if not int(fits.sum()):
            return None
        episode = torch.arange(len(fits)).repeat_interleave(fits)
        start = torch.arange(len(episode)) - (fits.cumsum(0) - fits).repeat_interleave(fits)
        if len(episode) > config.windows:
            generator = torch.Generator().manual_seed(seed_of(config.seed, number, use))
            some = torch.randperm(len(episode), generator=generator)[: config.windows].sort().values
            episode, start = episode[some], start[some]
        return lived.windows(episode, start, config.window)

    def _copy(self, rung: int) -> tuple[WorldModel, dict[str, Tensor]]:
        """A copy of the model, and the tensors of a rung, which alone may change."""
        model = copy.deepcopy(self._model).eval().requires_grad_(False)
        tensors = _tensors(model, self._config.rungs[rung])
        for tensor in tensors.values():
            tensor.requires_grad_(True)
        return model, tensors

    def _fit(self, model: WorldModel, tensors: Mapping[str, Tensor], windows: Window | None, number: int) -> None:
        """L-BFGS on the energy, in units of what it is before."""
        assert windows is not None
        config = self._config
        kept = self._replayed(number)
        answers = None if kept is None else self._foreseen(self._model, kept)[0].detach()
        unit = self._error(model, windows) + 1e-12

        def energy() -> Tensor:
            foreseen, seen = self._foreseen(model, windows)
            total = (foreseen - seen).square().mean()
            if kept is not None and answers is not None:
                total = total + config.stay * (self._foreseen(model, kept)[0] - answers).square().mean()
            return total / unit

        optimiser = torch.optim.LBFGS(
            list(tensors.values()), max_iter=config.iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = energy()
            torch.autograd.backward(loss, inputs=list(tensors.values()))
            return loss

        optimiser.step(closure)

    def _replayed(self, number: int) -> Window | None:
        if self.log is None or not self._config.stay:
            return None
        sampler = Sampler(self.log.lengths, self._config.window, self._config.windows,
                          seed_of(self._config.seed, number, 1), False)
        return self.log.windows(*sampler.draw(0), self._config.window)

    def _foreseen(self, model: WorldModel, windows: Window) -> tuple[Tensor, Tensor]:
        """What is imagined after each window's history, and what was seen: (B, L', …) each."""
        device = next(model.parameters()).device
        starts = torch.tensor([self.history - 1], device=device)
        batch = imagine_windows(self._perception, model, windows.to(device), starts,
                                self._config.window - self.history + 1, self.history)
        states = batch.made[Rollouts()].predicted.states[:, 0, 1:]
        return states, batch.made[Encoded()].latent.state[:, self.history :].detach()

    def _error(self, model: WorldModel, windows: Window) -> float:
        with torch.no_grad():
            foreseen, seen = self._foreseen(model, windows)
            return float((foreseen - seen).square().mean())

    # Making it -----------------------------------------------------------------------------------------------------

    def accept(self, update: Update) -> None:
        self._undoing.accept(update)

    def roll_back(self) -> None:
        self._undoing.roll_back()


def _beside(experience: Path, first: int, through: int, few: int) -> tuple[int, int]:
    """How many episodes go on side by side at moment `through`, and the oldest moment that was looked at to tell: the
    distance of the newest moment to the one before it in its episode."""
    reader = ExperienceReader(experience)
    while True:
        since, before, found = max(first, through - few), dict[int, int](), 1
        for moment in reader.moments(since, through):
            if moment.episode in before:
                found = moment.number - before[moment.episode]
            before[moment.episode] = moment.number
        if len(before) < through - since or since == first:  # some episode went on
            return found, since
        few *= 2


def _tensors(model: nn.Module, rung: Sequence[str]) -> dict[str, Tensor]:
    """Name -> tensor of floating numbers, of a model's own memory, that a rung may change."""
    wanted = [name for name in rung if name != ACTIONS]
    acted = {f"{place}.{name}" for place, module in model.named_modules() if isinstance(module, ActionEmbedding)
             and module.kind == "continuous" for name in ("scale", "shift")} if ACTIONS in rung else set()
    return {name: x for name, x in model.state_dict(keep_vars=True).items()
            if x.is_floating_point() and (name in acted or any(name.startswith(one) for one in wanted))}


def _require(fine: bool, expected: str, got: Any, fix: str) -> None:
    if not fine:
        raise ConfigError(expected, f"{got}", fix)
