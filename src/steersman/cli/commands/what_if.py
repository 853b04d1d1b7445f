"""`steersman what-if RUN`: two plans from one logged moment, side by side, within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli.command import option
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.moments import moment
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from steersman.core import ActionSpec
    from steersman.runs import Run
    from steersman.runs.trust import Trust

LOGGED = "logged"


@dataclass(frozen=True, kw_only=True)
class WhatIf(Extensible):
    """Compare two plans from a logged moment: what the model expects of each, within conformal bounds.

    Plans are given action by action, the last one held: --action 0.5 pushes so all the time, --action 2 --action 0
    once. What was done instead is the other plan, unless --against names one. Bounds are those of
    `steersman evaluate RUN --offline`, which is performed first where it has not been.

    A log of a closed loop identifies less than an experiment does; the answer says how far the plans lie from what the
    log shows.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman what-if runs/pendulum --row 100 --action 2\n"
        "steersman what-if runs/pendulum --episode 3 --row 40 --action=-2 --action 2 --against 0 --horizon 10 --json"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    row: Annotated[int, option("N")]
    """The moment: observation N of the log, counted over all episodes from 0; with --episode, of that episode."""
    action: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("A")]
    """What to do: numbers (0.5,-1), names of entries (heat=3; others as logged) or `logged`; one a step, the last is
    held."""
    against: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("A")] = ()
    """The other plan, in the same words (default: what was done)."""
    episode: Annotated[int | None, option("N")] = None
    """The episode, counted from 0."""
    horizon: Annotated[int | None, option("INT")] = None
    """Steps to look ahead (default: the trusted horizon, or what is left of the episode)."""
    checkpoint: str = "latest"
    """Which checkpoint imagines."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman import training
        from steersman.agent import Agent
        from steersman.cli.trusting import measure_trust, parts_of
        from steersman.evaluation import what_if_report
        from steersman.evaluation.what_if import compare
        from steersman.runs import Run
        from steersman.runs.artefacts import write
        from steersman.runs.trust import load_trust
        from steersman.studio import build

        run = Run.open(self.run)
        agent = Agent.load(run, self.checkpoint)
        dataset = training.open_data(run)
        episode, row = moment(dataset, self.episode, self.row)
        spec, other = agent.signature.action, self.against or (LOGGED,)
        done = dataset.episode(episode).actions[row:]
        for words in (self.action, other):  # before anything is measured
            plan(words, spec, done, 1)
        trust = load_trust(run)
        if trust is None or trust.checkpoint != run.checkpoint(self.checkpoint).step or (
                self.horizon is not None and trust.steps < self.horizon):
            trust = measure_trust(run, terminal, checkpoint=self.checkpoint, horizon=self.horizon)
        steps = self._steps(trust, len(done), bool(agent.signature.exogenous))
        b = None if other == (LOGGED,) else plan(other, spec, done, steps)
        found = compare(agent, trust, parts_of(run)[0], dataset, episode, row, plan(self.action, spec, done, steps), b)
        words = " ".join(self.action), " ".join(other)
        self._keep(run, what_if_report.table(found, trust, words), what_if_report.curves(found, words), write)
        terminal.table(what_if_report.table(found, trust, words))
        terminal.say()
        terminal.say(f"picture: {build(run.path)}#what-if")
        return Done({"run": str(self.run), **what_if_report.facts(found, trust)})

    def _steps(self, trust: Trust, left: int, known_inputs: bool) -> int:
        if self.horizon is not None and self.horizon < 1:
            raise UsageError("a horizon of at least 1", f"{self.horizon}", "raise --horizon")
        tied = LOGGED in self.action or not self.against or LOGGED in self.against or known_inputs
        usual = trust.horizon or trust.steps
        return self.horizon or (max(1, min(usual, left)) if tied else usual)

    @staticmethod
    def _keep(run: Run, table: Any, curves: list[Any], write: Any) -> None:
        for old in (run.path / "lines").glob("what-if-*.json"):
            old.unlink()
        write(run.path, table)
        for lines in curves:
            write(run.path, lines)


def plan(words: tuple[str, ...], spec: ActionSpec, done: Tensor, steps: int) -> Tensor:
    """The plan (H, A) that `words` describe; done (n, A) is what was logged from there on.

    Raises:
        UsageError: not an action of this world, or logged actions that are not there.
    """
    import torch

    if not words:
        raise UsageError("at least one action", "none", "give --action")
    rows = []
    for t in range(steps):
        word = words[min(t, len(words) - 1)]
        rows.append(_action(word, spec, done[t] if t < len(done) else None))
    return torch.stack(rows)


def _action(word: str, spec: ActionSpec, logged: Tensor | None) -> Tensor:
    import torch

    named = "=" in word
    if (named or word == LOGGED) and logged is None:
        raise UsageError("logged actions for the whole plan", "an episode that ends before", "shorten --horizon")
    if word == LOGGED:
        assert logged is not None
        return logged
    names = spec.names or tuple(f"action {i}" for i in range(spec.size))
    values: list[Any] = logged.tolist() if named and logged is not None else [None] * spec.size
    for i, piece in enumerate(word.split(",")):
        name, _, text = piece.rpartition("=")
        where = names.index(name.strip()) if named and name.strip() in names else i if not named else -1
        if not 0 <= where < spec.size:
            raise UsageError(f"{spec.size} of {', '.join(names)}", repr(word), "correct --action")
        values[where] = _value(text, word, spec, where, names[where])
    if None in values:
        raise UsageError(f"{spec.size} numbers ({', '.join(names)})", repr(word), "give one for each, e.g. 0.5,-1")
    return torch.tensor(values, dtype=torch.int64 if spec.kind == "discrete" else torch.float32)


def _value(text: str, word: str, spec: ActionSpec, where: int, name: str) -> float | int:
    discrete = spec.kind == "discrete"
    low, high = (0, spec.choices - 1) if discrete else (spec.low[where], spec.high[where])
    try:
        value: float | int = int(text) if discrete else float(text)
    except ValueError:
        kind = "a choice" if discrete else "a number"
        raise UsageError(f"{kind} for {name} in {word!r}", repr(text), "e.g. --action 1") from None
    if not low <= value <= high:
        raise UsageError(f"{name} within {low:g}..{high:g}", f"{value:g}", "stay within what the world allows")
    return value
