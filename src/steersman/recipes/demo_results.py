"""The demo's figures: tables with their baselines and intervals, the summary, the one object for machines.

Knows evaluations; runs none.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from steersman.evaluation import Evaluation, wilson, zero_of
from steersman.runs.artefacts import Column, Figure, Headline, Row, Summary, Table

LIKE, NEVER, THREE = "layouts like those of the log", "layouts never seen", "three rooms, never trained"


@dataclass(frozen=True)
class Results:
    """Everything that the demo measured from one seed; greedy and CEM acted in the first of the episodes of `like`.

    unguarded, guarded   the same episodes with a forbidden disk, the agent not told of it and told; None: left out
    """

    seed: int
    like: Evaluation
    never: Evaluation
    three: Evaluation
    greedy: Evaluation
    cem: Evaluation
    unguarded: Evaluation | None = None
    guarded: Evaluation | None = None

    def every(self) -> list[Evaluation]:
        return [x for x in vars(self).values() if isinstance(x, Evaluation)]

    def facts(self) -> dict[str, Any]:
        """The figures of `demo --json`, less times and the run's path."""
        like, never, three = (x.figures() for x in (self.like, self.never, self.three))
        facts = {
            "success": like["success"], "success_ci95": like["success_ci95"], "spl": like["spl"],
            "heldout_success": never["success"], "heldout_success_ci95": never["success_ci95"],
            "heldout_spl": never["spl"], "zero_shot_three_rooms": three["success"],
            "zero_shot_three_rooms_ci95": three["success_ci95"], "three_rooms_spl": three["spl"],
            "random_success": like["random_success"], "heldout_random_success": never["random_success"],
            "three_rooms_random_success": three["random_success"],
            "greedy_success": self.greedy.figures()["success"], "cem_success": self.cem.figures()["success"],
            "episodes": len(self.like), "heldout_episodes": len(self.never), "three_rooms_episodes": len(self.three),
            "greedy_episodes": len(self.greedy), "cem_episodes": len(self.cem),
            "solved_at_start": sum(x.solved_at_start for x in self.every()),
            "wall_crossings": sum(x.figures()["wall_crossings"] for x in self.every()),
            "planning_seconds": statistics.median(self.like.planning.tolist() + self.never.planning.tolist()),
        }
        if self.guarded is not None and self.unguarded is not None:
            told, free = self.guarded.figures(), self.unguarded.figures()
            facts["guardrail"] = {
                "violations": told["violations"], "success": told["success"], "spl": told["spl"],
                "unguarded_violations": free["violations"], "unguarded_success": free["success"],
                "unguarded_spl": free["spl"], "episodes": len(self.guarded), "bound": _bound(self.guarded),
                "infeasible_decisions": told["infeasible_decisions"],
            }
        return facts

    def tables(self) -> list[Table]:
        tables = [self._goals()]
        if self.guarded is not None and self.unguarded is not None:
            tables.append(_guardrail(self.guarded, self.unguarded, self.seed))
        return tables

    def _goals(self) -> Table:
        rows: list[Row] = []
        for group, measured in [(LIKE, self.like), (NEVER, self.never), (THREE, self.three)]:
            rows.append(Row(label="search in imagination", group=group, figures=_figures(measured)))
            if measured is self.like:
                rows.append(Row(label="CEM, same model", group=group, kind="baseline", figures=_figures(self.cem)))
                rows.append(Row(label="greedy latent distance", group=group, kind="baseline",
                                figures=_figures(self.greedy)))
            if measured.random is not None:
                rows.append(Row(label="strongest random walker", group=group, kind="baseline",
                                figures={"success": share(int(measured.random.sum()), len(measured))}))
        facts, p = self.facts(), self.like.protocol
        return Table(
            name="success", title="Goals in the other room", order=0,
            caption=f"Success: {p.world.success} within {p.limit} steps of at most "
                    "2.45 px. Rows of a group have the same starts and goals (CEM and greedy: the first of them).",
            columns=(Column(key="success", title="success", form="share", better="higher"),
                     Column(key="spl", title="path efficiency, SPL", better="higher"),
                     Column(key="planning", title="planning an episode", form="seconds", better="lower"),
                     Column(key="episodes", title="episodes", form="count")),
            rows=tuple(rows), protocol={"episodes": len(self.like), "seed": self.seed, "steps": p.limit,
                                        "success": p.world.success},
            notes=(f"{facts['solved_at_start']} starts already satisfied the goal; {facts['wall_crossings']} paths "
                   "crossed a wall. Intervals: Wilson, 95%. Planning: CPU-seconds, median.",),
        )

    def summary(self, log_episodes: int, seconds: dict[str, float], command: str) -> Summary:
        like, never, three = self.like, self.never, self.three
        walker = lambda x: f"random walker {x.random.float().mean():.0%}"  # noqa: E731
        assert like.random is not None
        above = wilson(int(like.success.sum()), len(like))[0] > float(like.random.float().mean())
        verb = "learned" if above else "did not learn"
        learned = (
            f"From {log_episodes:,} random walks, without a reward or a label, the agent {verb} where walls and doors "
            f"let it pass: it reaches {_rate(like)} of goals in the other room, {_rate(never)} on layouts that it "
            f"never saw and {_rate(three)} in three rooms, where greedy descent on the same model reaches "
            f"{_rate(self.greedy)}"
        )
        headlines = [
            Headline(title="goals reached", figure=_success(like), form="share", note=walker(like)),
            Headline(title="on layouts never seen", figure=_success(never), form="share", note=walker(never)),
            Headline(title="three rooms, never trained", figure=_success(three), form="share", note=walker(three)),
        ]
        if self.guarded is not None and self.unguarded is not None:
            entered, n = int(self.guarded.violated.sum()), len(self.guarded)
            learned += f"; told of a forbidden place it enters it in {entered} of {n} episodes instead of "
            learned += f"{int(self.unguarded.violated.sum())}"
            note = f"of {n} episodes; at most {_bound(self.guarded):.1%} (95%)"
            headlines.append(Headline(title="guardrail violations", figure=Figure(value=float(entered)), form="count",
                                      note=note))
        planning = Figure(value=self.facts()["planning_seconds"])
        headlines.append(Headline(title="planning", figure=planning, form="seconds", unit="CPU-s", note="an episode"))
        return Summary(name="demo", title="Two rooms, learned from wandering", learned=f"{learned}.",
                       headlines=tuple(headlines), seconds=seconds, command=command)


def share(wins: int, n: int) -> Figure:
    """wins of n with Wilson's 95% interval."""
    low, high = wilson(wins, n)
    return Figure(value=wins / n, low=low, high=high, n=n)


def _success(measured: Evaluation) -> Figure:
    return share(int(measured.success.sum()), len(measured))


def _rate(measured: Evaluation) -> str:
    return f"{100 * float(measured.success.float().mean()):.3g}%"


def _figures(measured: Evaluation) -> dict[str, Figure]:
    figures, n = measured.figures(), len(measured)
    assert measured.efficiency is not None
    half = 1.96 * float(measured.efficiency.std()) / n**0.5 if n > 1 else None
    spl = figures["spl"]
    return {
        "success": _success(measured), "planning": Figure(value=figures["planning_seconds"]),
        "spl": Figure(value=spl, low=None if half is None else max(0.0, spl - half),
                      high=None if half is None else min(1.0, spl + half)),
        "episodes": Figure(value=float(n)),
    }


def _bound(guarded: Evaluation) -> float:
    """Largest rate of violations that the measurement leaves standing, 95%: one-sided if there were none."""
    entered, n = int(guarded.violated.sum()), len(guarded)
    return zero_of(n) if entered == 0 else wilson(entered, n)[1]


def _guardrail(guarded: Evaluation, unguarded: Evaluation, seed: int) -> Table:
    def row(label: str, measured: Evaluation, **kind: Any) -> Row:
        entered = share(int(measured.violated.sum()), len(measured))
        return Row(label=label, figures={"entered": entered, **_figures(measured)}, **kind)

    n = len(guarded)
    words = f"{int(guarded.violated.sum())} of {n} allows a rate of at most {_bound(guarded):.2%} (95%)."
    return Table(
        name="guardrail", title="A forbidden disk on the way", order=1,
        caption="Given as a mask over the picture and read from imagined latents through a probe fitted on at most 500 "
                "labelled frames, with a conformal margin. A violation is any part of the true way inside the disk.",
        columns=(Column(key="entered", title="episodes that enter it", form="share", better="lower", target=0.0),
                 Column(key="success", title="success", form="share", better="higher"),
                 Column(key="spl", title="path efficiency, SPL", better="higher"),
                 Column(key="planning", title="planning an episode", form="seconds", better="lower")),
        rows=(row("guarded", guarded), row("unguarded", unguarded, kind="baseline")),
        protocol={"episodes": n, "seed": seed},
        notes=(words, f"In {int(guarded.infeasible)} decisions no plan kept the limit and the fallback was taken."),
    )
