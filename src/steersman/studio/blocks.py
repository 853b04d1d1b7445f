"""Artefacts -> what the page's template lays out: plain values, formatted, with images as data URIs.

Decides how a number or a figure is shown; does not know the page's order, nor where the files are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from steersman.runs.artefacts import (
    Artefact,
    Column,
    DataCard,
    Decision,
    Figure,
    Film,
    Flight,
    Limit,
    Line,
    Lines,
    Map,
    Picture,
    Row,
    Table,
)
from steersman.studio import quantities as q
from steersman.studio.images import data_uri, map_png, marks_svg
from steersman.studio.svg import chart, sparkline, whisker

Block = dict[str, Any]
Fetch = Callable[[type[Artefact], str], bytes]
"""(kind, file name) -> content of an image of the run."""


def setting(value: Any) -> str:
    """One value of a configuration, protocol or card, for people."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case int():
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        case list() | tuple():
            return ", ".join(setting(x) for x in value) or "none"
        case dict():
            return ", ".join(f"{k} {setting(v)}" for k, v in value.items()) or "none"
    return str(value)


def minus(text: str) -> str:
    """A number for print: with a true minus sign."""
    return text.replace("-", "−") if text[:1] == "-" or " to " in text else text


# Tables ----------------------------------------------------------------------------------------------------------


def table_block(table: Table) -> Block:
    places = {c.key: q.column_places(c, (row.figures.get(c.key) for row in table.rows)) for c in table.columns}
    best = {c.key: _best(c, table.rows) for c in table.columns}

    def cell(row: Row, column: Column) -> Block:
        figure = row.figures.get(column.key)
        if figure is None or figure.value is None:
            return {"figure": None, "best": False}
        share = column.form == "share" and figure.low is not None
        kind = "r-baseline" if row.kind == "baseline" else "r-actual"
        return {
            "figure": figure,
            "value": minus(q.number(figure.value, column.form, places[column.key])),
            "interval": minus(q.interval(figure, column.form, places[column.key])),
            "whisker": Markup(whisker(figure.value, figure.low, figure.high, column.target, kind)) if share else "",
            "best": best[column.key] == (row.group, row.label),
        }

    groups = [
        {"name": name, "rows": [{"label": row.label, "kind": row.kind, "cells": [cell(row, c) for c in table.columns]}
                                for row in rows]}
        for name, rows in groupby(table.rows, key=lambda row: row.group)
    ]
    columns = [{"title": q.heading(c), "better": c.better, "target": _target(c)} for c in table.columns]
    return {"kind": "table", "title": table.title, "caption": table.caption, "columns": columns, "groups": groups,
            "notes": table.notes, "protocol": [(k, setting(v)) for k, v in table.protocol.items()]}


def _target(column: Column) -> str:
    if column.target is None:
        return ""
    sign = {"higher": "≥ ", "lower": "≤ "}.get(column.better, "")
    return f"held to {sign}{minus(q.number(column.target, column.form))}"


def _best(column: Column, rows: Sequence[Row]) -> tuple[str, str] | None:
    if not column.better or len(rows) < 2:
        return None
    sign = 1 if column.better == "higher" else -1
    scored = [(sign * f.value, (r.group, r.label)) for r in rows
              if (f := r.figures.get(column.key, Figure(value=None))).value is not None]
    return max(scored)[1] if scored else None


# Films, maps, pictures -------------------------------------------------------------------------------------------


def film_block(film: Film, fetch: Fetch) -> Block:
    frames = len(film.steps)
    tracks = []
    for track in film.tracks:
        across = max(1, track.across)
        distances = list(track.distances[:frames])
        shown = [q.number(d) for d in distances]
        tracks.append({
            "title": track.title, "across": across, "down": -(-frames // across),
            "uri": data_uri(track.file, fetch(Film, track.file)),
            "alt": f"{film.title}: {track.title}, {frames} frames",
            "marks": Markup(marks_svg(track.marks, film.size, frames)),
            "distances": json.dumps(shown) if shown else "", "spark": Markup(sparkline(distances)),
            "distance_title": track.distance_title, "first_distance": shown[0] if shown else "",
        })
    return {"title": film.title, "outcome": film.outcome, "success": film.success, "caption": film.caption,
            "frames": frames, "steps": json.dumps(list(film.steps)), "first_step": film.steps[0] if frames else 0,
            "width": film.size[0], "height": film.size[1], "tracks": tracks}


def map_block(m: Map, fetch: Fetch) -> Block:
    values = [v for row in m.values for v in row if v is not None]
    low, high = (0.0 if m.fades else min(values), max(values)) if values else (0.0, 1.0)
    left, top, right, bottom = m.extent
    if m.file and m.size:
        x0, y0, width, height = -0.5, -0.5, float(m.size[0]), float(m.size[1])  # pixel centres are at whole numbers
        axes = ""
    else:
        x0, y0, width, height = min(left, right), min(top, bottom), abs(right - left) or 1.0, abs(bottom - top) or 1.0
        axes = f"{m.axes[0]}: {left:g} to {right:g}; {m.axes[1]}: {top:g} (top) to {bottom:g}"
    places = q.decimals([low, high])
    return {
        "title": m.title, "caption": m.caption, "alt": m.alt, "value_title": m.value_title, "axes": axes,
        "background": data_uri(m.file, fetch(Map, m.file)) if m.file else "",
        "heat": data_uri("heat.png", map_png(m.values, low, high, m.fades)),
        "ratio": width / height if m.size else 1.25, "wide_figure": bool(m.size) and width > 1.5 * height,
        "left": 100 * (min(left, right) - x0) / width, "top": 100 * (min(top, bottom) - y0) / height,
        "wide": 100 * abs(right - left) / width, "high": 100 * abs(bottom - top) / height,
        "low": minus(q.number(low, places=places)), "top_value": minus(q.number(high, places=places)),
        "marks": Markup(marks_svg(m.marks, m.size)) if m.size else "",
    }


def picture_block(p: Picture, fetch: Fetch) -> Block:
    return {"title": p.title, "caption": p.caption, "alt": p.alt, "uri": data_uri(p.file, fetch(Picture, p.file)),
            "pixels": p.pixels, "marks": Markup(marks_svg(p.marks, p.size)) if p.size else ""}


def chart_blocks(figures: Iterable[Lines], small: bool = False) -> list[Block]:
    """Curves side by side: one block, or none where there is nothing to draw."""
    drawn = [{"title": figure.title, "caption": figure.caption,
              "svg": Markup(chart(figure, 520, 190 if small else 240))} for figure in figures]
    return [{"kind": "charts", "small": small, "charts": drawn}] if drawn else []


def rows_block(
    title: str, header: Sequence[str], rows: Iterable[tuple[bool, Sequence[str]]], *, numeric: Sequence[str] = (),
    caption: str = "", folded: bool = False, style: str = "",
) -> Block:
    """A plain table under a heading that folds it away; a row is (whether it is an alarm, its cells)."""
    return {"kind": "rows", "title": title, "header": header, "numeric": numeric, "caption": caption, "style": style,
            "open": not folded, "rows": [{"alarm": alarm, "cells": cells} for alarm, cells in rows]}


# Data, decisions, configuration ----------------------------------------------------------------------------------


def data_block(card: DataCard, fetch: Fetch) -> Block:
    shortest, median, longest = card.lengths
    length = f"{shortest:,} steps" if shortest == longest else f"{shortest:,} / {median:,} / {longest:,} steps"
    rows = [("source", card.source), ("episodes", f"{card.episodes:,}"), ("steps", f"{card.steps:,}"),
            ("episode length" if shortest == longest else "episode length, min / median / max", length)]
    rows += [("size on disk", q.size(card.size_bytes))] if card.size_bytes is not None else []
    rows += [(k, setting(v)) for k, v in card.facts.items()]
    rows += [("fingerprint", f"{card.fingerprint[:16]}…" if len(card.fingerprint) > 20 else card.fingerprint)]
    columns = [[c.name, c.role, c.unit, *(minus(q.number(x)) for x in (c.mean, c.std, c.low, c.high))]
               for c in card.columns]
    return {"kind": "card", "title": card.title, "caption": card.caption, "facts": rows, "columns": columns,
            "header": ["column", "role", "unit", "mean", "standard deviation", "lowest", "highest"],
            "samples": data_uri(card.samples, fetch(DataCard, card.samples)) if card.samples else "",
            "samples_alt": card.samples_alt}


def flight_blocks(flight: Flight, most: int = 200) -> list[Block]:
    """Energies, margins and effort over the decisions, then the decisions themselves, folded away."""
    decisions = flight.decisions
    if not decisions:
        return []
    x = tuple(float(i) for i in range(len(decisions)))

    def lines(title: str, y_title: str, values: Mapping[str, list[float | None]], limits: tuple[Limit, ...] = (),
              caption: str = "") -> Lines:
        drawn = tuple(Line(label=k if len(values) > 1 or limits else "", x=x, y=tuple(v),
                           role="other" if len(values) > 1 else "actual") for k, v in values.items())
        return Lines(name="flight", title=title, caption=caption, x_title="decision", y_title=y_title, lines=drawn,
                     limits=limits)

    def by_name(pick: Callable[[Decision], Mapping[str, float]]) -> dict[str, list[float | None]]:
        names = sorted({name for d in decisions for name in pick(d)})
        return {name: [pick(d).get(name) for d in decisions] for name in names}

    charts = [lines("Energy of the chosen plan", "weighted energy", by_name(lambda d: d.energy),
                    caption="Each cost term, weighted, summed over the horizon.")]
    if any(d.margins for d in decisions):
        charts.append(lines("Guardrail margin of the chosen plan", "largest along the plan",
                            by_name(lambda d: d.margins), (Limit(label="limit", y=0.0),),
                            "At most 0 is safe, at every imagined step."))
    if any(d.vetoed for d in decisions):
        charts.append(lines("Candidates vetoed", "candidates", by_name(lambda d: d.vetoed)))
    if any(d.surprise is not None for d in decisions):
        charts.append(lines("Surprise", "latent energy", {"surprise": [d.surprise for d in decisions]},
                            caption="How far each moment lies from what had been foreseen of it, a mean over it."))
    charts.append(lines("Time of a decision", "ms", {"planning": [1000 * d.seconds for d in decisions]}))
    header = ["episode", "step", "action", "energy", "margin", "kept", "vetoed", "calls", "ms", "why"]
    rows = [(not d.feasible, _decision_cells(d)) for d in decisions[:most]]
    shown = f"{len(decisions):,} decisions"
    shown = shown if len(decisions) <= most else f"the first {most} of {shown}"
    return [*chart_blocks(charts, small=True), rows_block(
        f"{flight.title}: {shown}", header, rows, numeric=[h for h in header if h not in ("action", "why")],
        caption=flight.caption, folded=True)]


def _decision_cells(d: Decision) -> list[str]:
    margin = max(d.margins.values(), default=None)
    why = d.reason if d.feasible else f"no feasible plan: fallback. {d.reason}"
    return [str(d.episode), str(d.step), ", ".join(minus(f"{a:.3g}") for a in d.action),
            minus(q.number(sum(d.energy.values()))), minus(q.number(margin)), f"{d.kept:,}",
            f"{sum(d.vetoed.values()):,}", f"{d.calls:,}", f"{1000 * d.seconds:.1f}", why]


def listed(title: str, lines: Sequence[str]) -> Block:
    """Sentences, numbered."""
    return rows_block(title, ["", "what"], [(False, [f"{i + 1}", line]) for i, line in enumerate(lines)])


def config_block(config: Mapping[str, Any], depth: int = 2) -> Block:
    """A nested configuration as groups of dotted paths and values."""
    groups: dict[str, list[tuple[str, str]]] = {}

    def walk(path: tuple[str, ...], value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                walk((*path, str(key)), inner)
        elif isinstance(value, (list, tuple)) and value and all(isinstance(x, Mapping) for x in value):
            for i, inner in enumerate(value):
                walk((*path[:-1], f"{path[-1]} {i + 1}" if path else str(i)), inner)
        else:
            cut = min(depth, len(path) - 1)
            groups.setdefault(" · ".join(path[:cut]) or "run", []).append((".".join(path[cut:]), setting(value)))

    walk((), config)
    return {"kind": "config", "groups": [{"name": name, "rows": rows} for name, rows in groups.items()]}
