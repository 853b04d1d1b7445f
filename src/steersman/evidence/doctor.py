"""The doctor on trial: faults of seventy kinds planted into clean logs, at several strengths, and the clean logs.

A fault counts as found if a finding names it. On a clean log every finding above a note is a false alarm. Each planted
log and each clean log has a seed of its own, drawn from the experiment's.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from steersman.data.doctor import diagnose, lay_out
from steersman.data.doctor.report import Report
from steersman.data.source import ReadOptions
from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.doctor_faults import FAULTS, Fault
from steersman.evidence.doctor_later import LATER
from steersman.evidence.doctor_pictures import CAMERA_FAULTS, FILMED
from steersman.evidence.doctor_worlds import WORLDS, Array, Columns
from steersman.evidence.drawing import canvas, picture
from steersman.runs.artefacts import Column, Figure, Row, Table

CLEAN = 3
"""Clean logs of each world."""
GROUPS: dict[str, dict[str, Fault]] = {"faults": FAULTS, "later": LATER, "camera": CAMERA_FAULTS}
MADE = WORLDS | FILMED


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which faults are planted: half `part` of 2 of a group."""

    group: str
    part: int = 0


class Planted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """fault -> whether it was named, log by log."""

    named: dict[str, list[bool]]


class Clean(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """world -> false alarms in its clean logs; `logs` of each world."""

    alarms: dict[str, int]
    logs: int


def cells(seed: int) -> tuple[Cell, ...]:
    """Faults by groups, and the clean logs."""
    planted = [Cell(f"{group}-{part + 1}", plant, 120, seed, Settings(group, part))
               for group in GROUPS for part in range(2)]
    return (*planted, Cell("clean", examine_clean, 120, seed))


def plant(context: Context) -> Found:
    """Every fault of half a group at every strength, in a world drawn for it."""
    faults = list(GROUPS[context.settings.group].items())
    half = -(-len(faults) // 2)
    found: dict[str, list[bool]] = {}
    for name, fault in faults[context.settings.part * half :][:half]:
        g = np.random.default_rng([context.seed, zlib.crc32(name.encode())])
        worlds = fault.worlds or tuple(WORLDS)
        found[name] = []
        for strength in fault.strengths:
            world = worlds[int(g.integers(len(worlds)))]
            report = examined(fault.plant(MADE[world](g), g, strength))
            named = any(f.kind in fault.says for f in report.findings)
            found[name].append(named)
            if not named:
                context.say(f"missed: {name} ({strength:g}) in {world}")
        context.say(f"{name}: {sum(found[name])} of {len(found[name])}")
    return Found({"": _counted(found)}, Planted(found))


def examine_clean(context: Context) -> Found:
    """Every world without a fault, three times."""
    alarms: dict[str, int] = {}
    for world, make in MADE.items():
        alarms[world] = 0
        for i in range(CLEAN):
            report = examined(make(np.random.default_rng([context.seed, i, zlib.crc32(world.encode())])))
            alarms[world] += len(report.alarms)
            for finding in report.alarms:
                context.say(f"false alarm: {finding.kind} in {world}: {finding.what}")
    return Found({"": {"false_alarms": sum(alarms.values()), "clean_logs": CLEAN * len(MADE)}}, Clean(alarms, CLEAN))


def _counted(found: dict[str, list[bool]]) -> dict[str, int]:
    planted, hit = sum(map(len, found.values())), sum(map(sum, found.values()))
    return {"faults_planted": planted, "faults_found": hit, "fault_kinds": len(found),
            "fault_kinds_always_found": sum(all(x) for x in found.values())}


def summary(results: Results) -> Outcome:
    """All faults and all clean logs together."""
    found: dict[str, list[bool]] = {}
    alarms: dict[str, int] = {}
    figures: dict[str, Any] = {}
    for one in results:
        if one.cell.row == "clean":
            alarms |= one.record(Clean).alarms
            figures |= one.kept.figures[""]
        else:
            found |= one.record(Planted).named
    figures = _counted(found) | figures
    table = _table(found, alarms)
    if not found:
        return Outcome({"": figures}, (table,))
    shown = picture(
        _draw(found), "faults", "Faults found", "share of logs of each fault that were named",
        "One bar a kind of fault; the number beside it is that of planted logs.")
    return Outcome({"": figures}, (table,), (shown,))


def examined(columns: Columns) -> Report:
    """What the doctor says about columns."""
    return diagnose(*lay_out(tabled(columns), ReadOptions(), "a planted log"))


def tabled(columns: Columns) -> pa.Table:
    """Columns as a table that a format would have read."""
    fields = [_field(name, values) for name, values in columns.items()]
    return pa.table([array for _, array in fields], schema=pa.schema([field for field, _ in fields]))


def _field(name: str, values: Array) -> tuple[pa.Field, pa.Array]:
    """A column as a table holds it: frames (R, H, W, C) as bytes with their shape beside them."""
    if values.ndim == 1:
        array = pa.array(values)
        return pa.field(name, array.type), array
    size = int(np.prod(values.shape[1:]))
    raw = pa.py_buffer(np.ascontiguousarray(values).tobytes())
    array = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(values), [None, raw])
    return pa.field(name, array.type, metadata={"shape": ",".join(map(str, values.shape[1:]))}), array


def _table(found: dict[str, list[bool]], alarms: dict[str, int]) -> Table:
    rows = [
        Row(label=name, kind="agent", group="faults",
            figures={"logs": Figure(value=len(x)), "named": Figure(value=sum(x))})
        for name, x in found.items()
    ]
    rows += [
        Row(label=world, kind="baseline", group="no fault",
            figures={"logs": Figure(value=CLEAN), "alarms": Figure(value=count)})
        for world, count in alarms.items()
    ]
    return Table(
        name="doctor", title="Planted faults and clean logs", rows=tuple(rows),
        columns=(Column(key="logs", title="logs", form="count"), Column(key="named", title="named", form="count"),
                 Column(key="alarms", title="false alarms", form="count", better="lower", target=0.0)))


def _draw(found: dict[str, list[bool]]) -> Any:
    figure, axes = canvas(7, 0.22 * len(found) + 0.8)
    names = list(found)[::-1]
    axes.barh(names, [float(np.mean(found[n])) for n in names], color="#0072b2")
    for i, n in enumerate(names):
        axes.text(1.01, i, f"{len(found[n])}", va="center", fontsize="x-small")
    axes.set_xlim(0, 1.05)
    axes.set_xlabel("share of planted logs in which it was named")
    axes.tick_params(axis="y", labelsize="x-small")
    return figure
