"""`steersman fit RUN`: fit to a run's own log what plans may use beside the goal, and keep it with the run."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from steersman.cli.command import option
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.logs import INFERRED, LogOptions
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from steersman.agent import Agent
    from steersman.cost import Agreement, Logged
    from steersman.runs import Run

_ROWS = 1 << 22  # of a file of labels


@dataclass(frozen=True, kw_only=True)
class Fit(Extensible):
    """Fit a read-out to a few labels, or a margin, a guardrail or a cost to a run's own log; keep it with the run.

    --labels fits the read-out, for a run that learned from pictures alone: from a small log that shows what the run's
    own shows, and has the columns beside it. Goals and limits on these columns can be given from then on. --limit
    calibrates the margin of a limit on a column with the part of the log that was never trained on: it holds at all
    steps of a plan together, with the probability --level. --bad learns a guardrail from moments that are labelled as
    bad. --known keeps plans inside what the run knows: where its ensemble agrees as it does on the part of the log that
    was never trained on, or where the log has been. --distance learns the fewest steps from one state to another, a
    cost for goals of every kind but code. --critic learns what a goal's cost comes to after a state, so that plans need
    not look far; better from practice (--env) than from somebody else's log.

    Afterwards `--keep NAME` puts the guardrail in force (run, serve, rehearse, export). Plans towards a picture go by
    the distance alone (run, evaluate, serve); `--weight goal=0 --weight temporal-distance=1` says so for other goals,
    `--weight goal=1` takes it back. A folder that is exported carries them.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman fit runs/camera --labels labelled.npz --distance\n"
        "steersman fit runs/pendulum --limit 'speed<=6' --level 0.9 --name slow\n"
        "steersman fit runs/plant --limit 'T_R<=140' --level 0.97 --recourse 5 --name cool\n"
        "steersman fit runs/robot --bad tipped.csv --name tipped --share 0.95\n"
        "steersman fit runs/robot --known logged\n"
        "steersman fit runs/pendulum --critic cos=1,sin=0,speed=0 --env Pendulum-v1 --horizon 3"
    )

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""
    labels: Annotated[str, option("PATH")] = ""
    """A log with the run's pictures and the columns to be read off them, in any format that `steersman data formats`
    lists. 500 moments are plenty; each has the rows before it in its episode where a moment shows several pictures."""
    limit: Annotated[str, option("LIMIT")] = ""
    """A limit to calibrate, e.g. --limit 'speed<=6'."""
    bad: Annotated[Path | None, option("FILE")] = None
    """A CSV file of moments of the run's log that are bad: columns episode and row, counted from 0. With a third column
    bad (0 or 1) only the moments in it are labels; otherwise all others of the log are good."""
    known: Literal["", "agreement", "logged"] = ""
    """Keep plans where the members of the run's ensemble agree (agreement), or where the log has been, by its columns
    (logged; any world model). Refuses logged moments with a probability of 1 - --level."""
    columns: Annotated[str, option("NAMES")] = ""
    """Of --known logged: which columns, with commas between them (default: all). Fewer are told apart more sharply:
    name those that say where the plan must not go, e.g. --columns x,y."""
    distance: Annotated[bool, option()] = False
    """Learn the temporal distance."""
    ends: Annotated[bool, option()] = False
    """Of --distance: count only where a plan ends. Beside a goal on columns (--weight temporal-distance=1) that is as
    good as at every step, in a quarter of the time. Plans towards a picture do not go by it."""
    critic: Annotated[str, option("GOAL")] = ""
    """Learn the critic of this goal, words as for steersman run --goal; COLUMN=* is told when it acts. It foresees what
    --weight weighs, from the run's own log, that of --experience, or from practice in --env."""
    weight: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("TERM=NUMBER")] = ()
    """Of --critic: what a moment costs (default: the goal alone). Terms that were fitted are refused."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """Of --critic: limits within which it practises."""
    discount: float = 0.96
    """Of --critic: what a moment later counts."""
    experience: Annotated[Path | None, option("PATH")] = None
    """Of --critic: fit to this log instead, e.g. RUN/experience."""
    env: Annotated[str, option("ID")] = ""
    """Of --critic: act in this environment with the present critic, remember, fit again; --rounds times, --episodes of
    them each, looking --horizon steps ahead. The critic that cost least is kept."""
    rounds: int = 5
    """Of --env: fits; there is one life more, which measures the last."""
    episodes: int = 48
    """Of --env: episodes of each life."""
    name: str = ""
    """What --keep calls the guardrail: letters, digits, - and _."""
    level: float = 0.99
    """Of --limit: with what probability a plan's errors stay within the margin, over new episodes. Of --known: the
    share of logged windows or moments that is not refused."""
    recourse: Annotated[int | None, option("STEPS")] = None
    """Of --limit: steps after which a new decision could undo an error. Only they are promised, later ones keep as much
    as the last of them; plans may look any distance."""
    horizon: Annotated[int | None, option("INT")] = None
    """Of --limit: steps to calibrate (default: what the planner looks ahead). Plans that look farther are refused. Of
    --known agreement: steps of a window. Of --critic --env: steps to look ahead while practising."""
    share: float = 0.99
    """Of --bad: the share of bad moments that is to be refused."""
    seed: int = 0
    """Of what is drawn."""
    drop: Annotated[str, option("NAME")] = ""
    """Keep the guardrail, or cost, of this name no longer."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """How to read the log of --labels."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.agent import Agent, store_additions
        from steersman.agent.fitted.additions import require_name
        from steersman.runs import Run

        asked = [bool(self.labels) or self.distance, bool(self.limit), self.bad is not None, bool(self.known),
                 bool(self.drop), bool(self.critic)]
        if sum(asked) != 1:
            raise UsageError("one of --labels (with or without --distance), --limit, --bad, --known, --distance, "
                             "--critic and --drop", f"{sum(asked)} of them", "give one at a time")
        if (self.limit or self.bad is not None) and not self.name:
            raise UsageError("a name for the guardrail", "none", "give --name, e.g. --name slow")
        if self.ends and not self.distance:
            raise UsageError("--distance beside --ends", "--ends alone", "add --distance: it is what counts there")
        require_name(self.name or "unnamed")
        run = Run.open(self.run)
        if self.drop:
            return self._drop(run, terminal)
        read: dict[str, Any] = {}
        if self.labels:
            from steersman.cli.labels import fit_readout

            read = fit_readout(run, self.labels, self.log, self.seed, terminal)
            if not self.distance:
                return Done({"run": str(self.run), **read})
        agent = Agent.load(run, additions=False)
        fit = self._limit if self.limit else self._bad if self.bad is not None else (
            self._known if self.known else self._critic if self.critic else self._distance)
        facts = fit(run, agent, terminal)
        kept = store_additions(agent, run)
        return Done({"run": str(self.run), "kept": kept, **read, **facts})

    def _limit(self, run: Run, agent: Agent, terminal: Terminal) -> dict[str, Any]:
        from steersman.cli.goals import limit
        from steersman.cli.trusting import require_held_out
        from steersman.cost import Box
        from steersman.evaluation import measure_margins

        wanted = limit(self.limit, agent.readout)
        learned, later = require_held_out(run)
        horizon = self.horizon or agent.planner.horizon or 10
        margins = measure_margins(agent, learned, later, wanted, level=self.level, horizon=horizon,
                                  recourse=self.recourse, seed=self.seed)
        assert agent.readout is not None
        (column, (low, high)), = wanted.limits.items()
        agent.add_guardrail(self.name, Box(agent.readout, {column: (low, high)}, name=self.limit,
                                           margin={column: margins}))
        terminal.say(f"margin of {self.limit}: {margins}, from {margins.units} units of the held-out log")
        terminal.say(margins.promise)
        terminal.say(f"kept: steersman run {self.run} … --keep {self.name}")
        return {"name": self.name, "margin": list(margins.by_step), "level": margins.level, "count": margins.count,
                "units": margins.units}

    def _bad(self, run: Run, agent: Agent, terminal: Terminal) -> dict[str, Any]:
        from steersman.agent.distance import latents
        from steersman.cost import BadStates
        from steersman.training import open_data

        assert self.bad is not None
        dataset = open_data(run)
        episode, row, bad = _labels(self.bad, dataset.lengths)
        states = latents(agent, dataset, episode, row)
        unit = episode if len(episode[bad].unique()) >= 200 else None  # whole episodes, where they suffice
        rail = BadStates.fit(states, bad, latent_shape=agent.perception.latent_shape, unit=unit, share=self.share,
                             seed=self.seed, name=self.name)
        agent.add_guardrail(self.name, rail)
        terminal.say(f"{self.name}: refuses {rail.share:.1%} of bad moments ({int(bad.sum()):,} labels) and "
                     f"{rail.good_refused:.1%} of good ones ({int((~bad).sum()):,})")
        terminal.say(f"kept: steersman run {self.run} … --keep {self.name}")
        return {"name": self.name, "share": rail.share, "good_refused": rail.good_refused, "bad": int(bad.sum()),
                "good": int((~bad).sum())}

    def _known(self, run: Run, agent: Agent, terminal: Terminal) -> dict[str, Any]:
        from steersman.cli.trusting import require_held_out
        from steersman.evaluation import fit_agreement, fit_logged

        learned, later = require_held_out(run)
        name = self.name or self.known
        found: Agreement | Logged
        if self.known == "agreement":
            found = fit_agreement(agent, later, level=self.level, horizon=self.horizon or agent.planner.horizon or 10,
                                  seed=self.seed, name=name)
        else:
            columns = tuple(filter(None, map(str.strip, self.columns.split(","))))
            found = fit_logged(agent, learned, later, columns=columns, level=self.level, seed=self.seed, name=name)
        agent.add_guardrail(name, found)
        terminal.say(f"{name}: refuses a logged moment with a probability of {1 - self.level:.2g} at most")
        terminal.say(f"kept: steersman run {self.run} … --keep {name}")
        return {"name": name, "known": self.known, "level": self.level, "threshold": found.threshold}

    def _distance(self, run: Run, agent: Agent, terminal: Terminal) -> dict[str, Any]:
        from steersman.agent.distance import fit_distance
        from steersman.training import open_data

        dataset = open_data(run)
        moments = int((dataset.lengths + 1).sum())
        distance, step = fit_distance(agent, dataset, self.seed, "last" if self.ends else "steps")
        agent.add_cost(distance)
        terminal.say(f"temporal distance from {moments:,} moments: a step counts as {step:.2f}")
        if self.ends:
            terminal.say(f"kept: beside a goal on columns with --weight {distance.name}=1")
        else:
            terminal.say(f"kept: plans towards a picture go by it alone from now on, towards columns with --weight "
                         f"goal=0 --weight {distance.name}=1")
        return {"name": distance.name, "step": step, "moments": moments}

    def _critic(self, run: Run, agent: Agent, terminal: Terminal) -> dict[str, Any]:
        from steersman.cli.criticising import criticised

        return criticised(agent, run, self.critic, self.weight, self.keep, log=self.experience, discount=self.discount,
                          env=self.env, rounds=self.rounds, episodes=self.episodes, horizon=self.horizon,
                          seed=self.seed, terminal=terminal)

    def _drop(self, run: Run, terminal: Terminal) -> Done:
        from steersman.agent.fitted.additions import key
        from steersman.agent.fitted.in_run import drop_addition, read_index

        kinds = [key(entry.record).partition(".")[0] for entry in read_index(run).entries
                 if entry.record.name == self.drop]
        for kind in kinds or ["guardrail"]:
            drop_addition(run, kind, self.drop)
        terminal.say(f"{self.drop} is kept no longer")
        return Done({"run": str(self.run), "dropped": self.drop})


def _labels(path: Path, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labelled moments: episode (n,), row (n,), bad (n,) bool.

    Raises:
        UsageError: no such file, other columns, or moments that the log does not have.
    """
    import torch

    rows: dict[tuple[int, int], bool] = {}
    explicit = False
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            explicit = "bad" in (reader.fieldnames or ())
            for number, line in enumerate(reader, 2):
                moment = int(line["episode"]), int(line["row"])
                if not (0 <= moment[0] < len(lengths) and 0 <= moment[1] <= int(lengths[moment[0]])) or number > _ROWS:
                    raise UsageError(f"moments of the run's {len(lengths)} episodes", f"line {number}: episode "
                                     f"{moment[0]}, row {moment[1]}", "count both from 0")
                rows[moment] = not explicit or bool(int(line["bad"]))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UsageError(f"whole numbers in columns episode and row in {path}", f"{type(error).__name__}: {error}",
                         "write one bad moment a line") from error
    if not explicit:
        bad = rows
        rows = {(e, r): (e, r) in bad for e, steps in enumerate(lengths.tolist()) for r in range(steps + 1)}
    found = torch.tensor([*rows] or [[0, 0]][:0], dtype=torch.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1], torch.tensor(list(rows.values()), dtype=torch.bool)
