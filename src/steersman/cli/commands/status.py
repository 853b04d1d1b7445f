"""`steersman status RUN`: what a run is doing, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli.command import Command, option
from steersman.cli.done import Done
from steersman.cli.terminal import Terminal
from steersman.studio import quantities as q

if TYPE_CHECKING:
    from steersman.runs import status


@dataclass(frozen=True, kw_only=True)
class Status(Command):
    """Say on one page what a run is doing: how far it is, how well it does, what surprises it, what it learned.

    Read from its files alone, while it goes on or after it was stopped. The counts are those of `steersman run
    --steps`, which writes them every few seconds; decisions, experience and updates are those of whatever acts.
    """

    EXAMPLE: ClassVar[str] = "steersman status runs/hazards"

    run: Annotated[Path, tyro.conf.Positional, option("RUN")]
    """The run's directory."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.runs import Run
        from steersman.runs.status import status_of

        found = status_of(Run.open(self.run))
        if found.living is None:
            terminal.heading("nobody lived here yet", f"steersman run {self.run} --env ID --steps 100000")
        else:
            terminal.heading(_doing(found))
            terminal.pairs(_lived(found))
        terminal.heading("what is written down")
        terminal.pairs(_kept(found))
        for warning in found.warnings:
            terminal.say(terminal.style(f"  ! {warning}", "warn"))
        return Done(_plain(found))


def _doing(found: status.Status) -> str:
    living = found.living
    assert living is not None
    if living.done:
        return "done"
    heard = f"{found.heard or 0:,.0f} s ago"
    return f"acting, heard of {heard}" if found.acting else (
        f"stopped, last heard of {heard}; the same command goes on")


def _lived(found: status.Status) -> list[tuple[str, str]]:
    living = found.living
    assert living is not None
    ended = living.episodes
    rows = [
        ("world", f"{living.env}{f', goal {living.goal}' if living.goal else ''}, seed {living.seed}"),
        ("steps", f"{living.steps:,} of {living.asked:,} ({_share(living.steps, living.asked)})"),
        ("episodes", f"{ended:,} ended, {_share(living.reached, ended)} reached the goal, "
                     f"{living.violated:,} did what is forbidden"),
        ("return", "" if living.returned is None or not ended else f"{living.returned / ended:,.4g} an episode"),
        ("decisions", f"{living.decisions:,}"
                      + ("" if living.rate is None else f", {living.rate:,.3g} a second")),
        ("guardrails", _guarded(found)),
        ("surprise", _surprise(found)),
        ("updates", f"{living.updates:,} stand since the checkpoint"),
        ("time", f"{q.clock(living.seconds)} of acting, begun {living.begun} times"),
        ("memory", _memory(found)),
        ("last reason", living.reason),
    ]
    return rows


def _guarded(found: status.Status) -> str:
    living = found.living
    assert living is not None
    if not living.keep and not living.refused:
        return "none"
    refused = ", ".join(f"{name} refused {count:,} candidates" for name, count in sorted(living.refused.items()))
    words = [", ".join(living.keep), refused, f"{living.infeasible:,} decisions found no plan within them"]
    return "; ".join(word for word in words if word)


def _surprise(found: status.Status) -> str:
    living = found.living
    assert living is not None
    if living.surprise is None:
        return "unknown"
    if living.threshold is None:
        return f"{living.surprise:.3g} at the last moment; nobody watches it"
    side = "above" if living.surprise > living.threshold else "below"
    return (f"{living.surprise:.3g}, {side} its threshold of {living.threshold:.3g}; "
            f"{living.alarms:,} alarms")


def _memory(found: status.Status) -> str:
    living = found.living
    assert living is not None
    if not living.resident:
        return ""
    now = q.size(living.resident[-1][1])
    grown = "" if found.growth is None else f", grows by {1000 * found.growth / 1024:,.3g} KiB in 1,000 steps"
    return f"{now}{grown}"


def _kept(found: status.Status) -> list[tuple[str, str]]:
    surprise = [x for x in found.surprise if x is not None]
    last = found.changes[-1] if found.changes else None
    taken = sum(change.kind == "taken back" for change in found.changes)
    return [
        ("decisions", f"{found.decisions:,} in the last of {found.sessions} sessions" if found.sessions else "none"),
        ("last decision", found.last[0] if found.last else ""),
        ("its surprise", f"{sum(surprise) / len(surprise):.3g}" if surprise else ""),
        ("experience", f"{found.moments:,} moments" + (f", {found.made_room:,} made room" if found.made_room else "")),
        ("changes", "none" if last is None else f"{len(found.changes):,} noted, {taken} of them taking one back"),
        ("last change", "" if last is None else ", ".join(
            f"{name} {value:.3g}" for name, value in last.told.items() if value is not None)),
        ("disk", f"{q.size(sum(found.disk.values()))}: "
                 + ", ".join(f"{name} {q.size(size)}" for name, size in
                             sorted(found.disk.items(), key=lambda x: -x[1])[:5])),
    ]


def _share(part: int, whole: int) -> str:
    return q.number(part / whole if whole else None, "share")


def _plain(found: status.Status) -> dict[str, Any]:
    import msgspec

    living = found.living
    return {
        "living": None if living is None else msgspec.to_builtins(living), "heard": found.heard,
        "acting": found.acting, "memory_growth": found.growth, "sessions": found.sessions,
        "decisions": found.decisions, "moments": found.moments, "made_room": found.made_room,
        "changes": len(found.changes), "disk": dict(found.disk), "reason": list(found.last),
        "warnings": list(found.warnings),
    }
