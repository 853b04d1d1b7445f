"""What the doctor says about a log, as one HTML page: verdict, findings, columns and how the world moves, drawn.

Draws what `data.doctor` measured; measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from steersman.data.doctor.report import ColumnFacts, Dynamics, Report, Visibility
from steersman.runs.artefacts import Line, Lines
from steersman.studio import blocks as b
from steersman.studio import quantities as q
from steersman.studio.report import Page, Section, html

STATES = {"bad": "repair", "warn": "improve", "note": "know"}


def diagnosis(report: Report) -> str:
    """The page's text."""
    d = report.dynamics
    page = Page(
        title=report.path.rstrip("/").rpartition("/")[2] or report.path, over=f"{report.format} log, examined",
        foot=f"examined in {q.duration(report.seconds)}", learned=report.verdict,
        command=f"steersman data doctor {report.path}",
    )
    page.headlines = [
        {"title": title, "value": value, "unit": "", "interval": "", "n": None, "note": note}
        for title, value, note in headlines(report)
    ]
    page.sections = [
        section for section in (
            Section("findings", "Findings", _intro(report), [_findings(report)] if report.findings else []),
            Section("advice", "What to do next", "", [b.listed("Next", report.advice)]),
            Section("moves", "How this world moves", _moves(d), _charts(d) if d.effects else []),
            Section("visibility", "When an action shows in the pictures", _seen(report.visibility),
                    _strides(report.visibility)),
            Section("observations", "Observations", "", [_observations(report)] if report.observations else []),
            Section("columns", "Columns", "",
                    [_columns(report), *_histograms(report.columns)] if report.columns else []),
        ) if section.blocks or section.intro
    ]
    return html(page)


def headlines(report: Report) -> list[tuple[str, str, str]]:
    """Title, value and a note for each number that matters most."""
    d, lengths = report.dynamics, report.lengths
    found = [
        ("rows", f"{report.rows:,}", f"{report.episodes:,} episodes of {lengths[0]:,} to {lengths[2]:,} steps"),
        ("alarms", f"{len(report.alarms)}", f"and {len(report.findings) - len(report.alarms)} notes"),
    ]
    if d.transitions and any(c.role == "action" for c in report.columns):
        found.append((
            "controllability", q.number(d.controllability, "share"),
            f"of the error goes once the action is known, in {len(d.controlled)} of {len(d.effects)} columns"))
    if d.transitions:
        found += [
            ("determinism", q.number(d.determinism, "share"), "of a step's change can be told"),
            ("horizon", f"{d.horizon}", "steps ahead with half of what could be told"),
        ]
    return found


def _intro(report: Report) -> str:
    return "" if report.findings else "Nothing is the matter with the form of this log."


def _moves(d: Dynamics) -> str:
    if not d.effects:
        return ""
    shown = f"the action shows {d.delay} rows later" if d.delay else "the action shows in the next row"
    past = "the rows before help to predict" if d.history else "the observation tells the state"
    return (f"Held-out regressions on {d.transitions:,} steps, whole blocks of the log at a time: {shown}; {past}; the "
            f"observation tells {max(d.followed, 0):.0%} of the action. After {d.memory} steps a row says little about "
            "the present.")


def _findings(report: Report) -> b.Block:
    header = ["to", "what", "what to do", "rows"]
    rows = [(f.state == "bad", [STATES[f.state], f.what, f.fix, ", ".join(f"{r:,}" for r in f.rows)])
            for f in report.findings]
    return b.rows_block(f"{len(rows)} finding{'s' * (len(rows) != 1)}", header, rows,
                        caption="Rows as the file counts them, the header aside; the first few.")


def _charts(d: Dynamics) -> list[b.Block]:
    charts = []
    if d.horizons:
        x = tuple(float(h.steps) for h in d.horizons)
        charts.append(Lines(
            name="horizon", title="Error further and further ahead", x_title="steps ahead", y_title="error / variance",
            caption="1 is no better than the mean. A simple model that knows the coming actions, beside saying that "
                    "nothing changes; the mean of all columns, held out.",
            lines=(Line(label="model", x=x, y=tuple(h.model for h in d.horizons), role="actual"),
                   Line(label="no change", x=x, y=tuple(h.still for h in d.horizons), role="baseline"))))
    if d.lags:
        charts.append(Lines(
            name="lags", title="What an action does, and how soon", x_title="rows from the action to its own",
            y_title="error taken away",
            caption="How much one row's action adds to the observation, by itself. −1: the action of the row after.",
            lines=(Line(label="", x=tuple(float(k) for k, _ in d.lags), y=tuple(g for _, g in d.lags),
                        role="actual"),)))
    return b.chart_blocks(charts)


def _seen(v: Visibility | None) -> str:
    if v is None:
        return ""
    more = "" if v.growth is None else f" More of it: {v.growth.words}."
    return f"{v.words[0].upper()}{v.words[1:]}.{more}"


def _strides(v: Visibility | None) -> list[b.Block]:
    if v is None:
        return []
    x = tuple(float(s.rows) for s in v.strides)
    return b.chart_blocks([Lines(
        name="visibility", title="What pictures tell of the action between them", x_title="rows between the pictures",
        y_title="R²", caption="Held-out regression of the mean action on three pictures, beyond what the action before "
        "tells of it; below it, the same for the actions of elsewhere in the log.",
        lines=(Line(label="this action", x=x, y=tuple(s.told for s in v.strides), role="actual"),
               Line(label="another", x=x, y=tuple(s.floor for s in v.strides), role="baseline")))])


def _observations(report: Report) -> b.Block:
    """Pictures, fields, waveforms and tokens, a line each."""
    rows = [(False, [o.name, o.kind, "×".join(map(str, o.shape)), o.words]) for o in report.observations]
    return b.rows_block(f"{len(rows)} observation{'s' * (len(rows) != 1)}", ["name", "kind", "shape", "measured"], rows,
                        caption="What is no column of numbers.")


def _columns(report: Report) -> b.Block:
    effects = {e.name: e for e in report.dynamics.effects}
    header = ["column", "role", "unit", "empty", "mean", "deviation", "lowest", "highest", "alone", "with action",
              "with past"]
    rows = []
    for c in report.columns:
        e = effects.get(c.name)
        told = (e.alone, e.acted, e.past) if e else (None, None, None)
        rows.append((c.empty > 0.5, [
            c.name, c.role, c.unit, q.number(c.empty, "share") if c.empty else "",
            *(b.minus(q.number(x)) for x in (c.mean, c.std, c.low, c.high)), *(q.number(x, "share") for x in told)]))
    return b.rows_block(
        f"{len(rows)} columns", header, rows[:200], numeric=header[3:],
        caption="The last three: share of a step's change that is not told by the observation alone, with the action, "
                "with the rows before as well.")


def _histograms(columns: Sequence[ColumnFacts], most: int = 24) -> list[b.Block]:
    """How the values of each column are spread."""
    charts = []
    for i, c in enumerate([c for c in columns if c.histogram][:most]):
        if c.low is None or c.high is None:
            continue
        width = (c.high - c.low) / len(c.histogram)
        x = tuple(c.low + (i + 0.5) * width for i in range(len(c.histogram)))
        total = max(sum(c.histogram), 1)
        charts.append(Lines(
            name=f"column-{i}", title=c.name, x_title=c.unit or c.role, y_title="share of rows",
            lines=(Line(label="", x=x, y=tuple(n / total for n in c.histogram), role="actual"),)))
    return b.chart_blocks(charts, small=True)
