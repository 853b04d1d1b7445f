"""Findings and dynamics -> plain words: can something be learned from this log, how far ahead, and what to log next."""

from __future__ import annotations

from collections.abc import Sequence

from steersman.data.doctor.report import Dynamics, Finding
from steersman.data.doctor.rows import Rows
from steersman.data.doctor.watching import Watch


def left_out(rows: Rows, watches: Sequence[Watch]) -> list[Finding]:
    """In words, what was not asked of this log because it makes no sense there."""
    words = any(watch.name == "action" for watch in watches)
    if rows.acted or not (words or rows.schema.no_action):
        return []
    why = "the actions are words" if words else "nobody acts in this log"
    return [Finding(kind="left-out", state="note", what=f"{why}: what an action does, how soon, and which were tried, "
                    "was not looked at")]


def judge(
    rows: Rows, findings: Sequence[Finding], d: Dynamics, watches: Sequence[Watch] = ()
) -> tuple[str, tuple[str, ...]]:
    """The verdict, and what to do or log next, most important first."""
    bad = [f for f in findings if f.state == "bad"]
    warn = [f for f in findings if f.state == "warn"]
    steps = sum(stop - start - 1 for start, stop in rows.bounds)
    words = []
    if bad:
        words.append(f"Repair the log first: {bad[0].what}" + (f"; and {len(bad) - 1} more." if len(bad) > 1 else "."))
        if d.controlled:
            words.append("Repaired, it can teach a model to steer.")
    elif not d.transitions:
        seen = [*(["pictures"] if rows.images else []), *dict.fromkeys(watch.title for watch in watches)]
        words.append(f"{' and '.join(seen).capitalize()}: looked at for damage, nothing that would keep a model from "
                     "learning was found." if seen and not rows.observed else "Too little to judge the world by.")
        if rows.schema.no_action and not any(watch.name == "action" for watch in watches):
            words.append("Nobody acts: a model can learn what is there" + (
                ", and what comes next." if steps else "; single moments do not tell what comes next."))
    elif d.controlled:
        words.append("This log can teach a model to steer.")
    elif d.followed > 0.98:
        words.append("This log shows what a controller does, not what an action would do.")
    else:
        words.append("This log can teach what happens, not how to steer it.")
    if d.transitions:
        words += _moves(d, rows)
    if warn and not bad:
        words.append(f"{len(warn)} {'thing' if len(warn) == 1 else 'things'} would make it better.")
    return " ".join(words), _advice(findings, d, steps)


def _moves(d: Dynamics, rows: Rows) -> list[str]:
    words = []
    if d.controlled:
        names = ", ".join(d.controlled[:4]) + (f" and {len(d.controlled) - 4} more" if len(d.controlled) > 4 else "")
        words.append(f"The action shows in {names}: knowing it takes away {d.controllability:.0%} of the error there"
                     + (f", {d.delay} {'row' if d.delay == 1 else 'rows'} later." if d.delay else "."))
    if d.determinism is not None:
        kind = "almost all" if d.determinism > 0.98 else "most" if d.determinism > 0.7 else \
            "some" if d.determinism > 0.2 else "little"
        words.append(f"Of a step's change {kind} can be told ({d.determinism:.0%}).")
    if d.horizon:
        last = d.horizons[-1].steps if d.horizons else 0
        clock = "" if rows.spacing is None else f" ({d.horizon * rows.spacing.period:.3g} on its clock)"
        words.append(f"Expect a model to see {'at least ' if d.horizon >= last else 'about '}{d.horizon} "
                     f"{'step' if d.horizon == 1 else 'steps'}{clock} ahead.")
    elif d.horizons:
        words.append("Even one step ahead most of what could be told is not: do not expect plans to hold.")
    return words


def _grouped(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """What to do -> the columns that it is to be done to, most important first."""
    found: dict[str, list[str]] = {}
    for finding in findings:
        if finding.fix and finding.state != "note":
            names = found.setdefault(finding.fix, [])
            names += [name for name in finding.columns if name not in names]
    return found


def _told(fix: str, columns: Sequence[str]) -> str:
    missing = [name for name in columns if name not in fix]
    about = ", ".join(missing[:4]) + (", …" if len(missing) > 4 else "")
    return f"{about}: {fix}." if missing and len(missing) == len(columns) else f"{fix[0].upper()}{fix[1:]}."


def _advice(findings: Sequence[Finding], d: Dynamics, steps: int) -> tuple[str, ...]:
    found = [_told(fix, columns) for fix, columns in _grouped(findings).items()]
    if d.transitions and d.controlled and steps < 5000:
        found.append(f"Log more: {steps:,} steps are few; 10,000 to 50,000 of varied action are a good start.")
    if d.history and not any(f.kind == "delay" for f in findings):
        found.append("Log what tells the rest of the state (speeds, loads, modes), or train with history.")
    if d.determinism is not None and d.determinism < 0.5 and d.transitions:
        found.append("Half of what happens is told by nothing in the log: log the disturbances, or average over noise.")
    if not found:
        found.append("Nothing is missing: train, then look at the prediction error on what was held out.")
    return tuple(dict.fromkeys(found))
