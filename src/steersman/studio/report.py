"""A run directory -> one HTML file that needs nothing else: no network, no script from elsewhere, light and dark.

Reads what was computed before; computes nothing, changes nothing but `report/report.html`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from steersman.core.errors import RunError
from steersman.runs import Manifest, Run, atomic_write
from steersman.runs.artefacts import (
    A,
    Artefact,
    DataCard,
    Film,
    Flight,
    Lines,
    Map,
    Picture,
    Summary,
    Table,
    image_bytes,
    read_all,
)
from steersman.studio import blocks as b
from steersman.studio import quantities as q
from steersman.studio.curves import metric_figures
from steersman.studio.images import ramp_css
from steersman.studio.svg import stages

TRUST, WHAT_IF, SEEN, COLLAPSE = "trust", "what-if", "seen", "collapse"
"""Artefacts of these names, or names that begin so, stand in sections of their own."""
LIMIT = 7_000_000
"""Bytes of images in a page; what does not fit is named instead of shown."""


_FILMS = (
    "What happened beside what the model expected at the same moment. A latent cannot be seen: each prediction is "
    "shown as the logged frame that lies nearest to it, with its distance. Move the slider to go through the steps."
)


_SEEN = (
    "Episodes of the log beside what the model imagined of them from the first moment on, with the actions that were "
    "logged. A latent cannot be seen: the logged frame whose state is nearest stands for it. The middle of a film does "
    "so for what happened: where it differs from the left, the state does not tell what differs, or the log has "
    "nothing nearer; what the right adds to that is the model's error."
)


class _Full(Exception):
    """The page has no room for another image."""


@dataclass
class Section:
    """A heading with blocks under it; left out where there are none, with the command that makes them, `how`."""

    key: str
    title: str
    intro: str = ""
    blocks: list[b.Block] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    how: str = ""


@dataclass
class Page:
    """What the template gets."""

    title: str
    over: str
    foot: str
    learned: str = ""
    command: str = ""
    headlines: list[dict[str, Any]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)
    stages_bar: str = ""
    sections: list[Section] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)


class _Shelf:
    """The artefacts of one run, and the room that is left for their images."""

    def __init__(self, run: Run) -> None:
        self.run, self.left = run, LIMIT
        self.measure = f"steersman evaluate {run.path}, or steersman run {run.path} --env ID"

    def read(self, kind: type[A], section: Section) -> list[A]:
        good, bad = read_all(self.run.path, kind)
        section.damaged += bad
        return good

    def fetch(self, kind: type[Artefact], name: str) -> bytes:
        content = image_bytes(self.run.path, kind, name)
        if len(content) * 4 // 3 > self.left:
            raise _Full
        self.left -= len(content) * 4 // 3
        return content

    def show(self, artefacts: list[A], draw: Callable[[A, b.Fetch], b.Block], section: Section) -> list[b.Block]:
        """Blocks of as many artefacts as there is room for; a note about the others."""
        shown, over = [], 0
        for artefact in artefacts:
            try:
                shown.append(draw(artefact, self.fetch))
            except RunError as error:
                section.damaged.append(str(error))
            except _Full:
                over += 1
        if over:
            section.intro += f" {over} more would make this page too large; they are in {artefacts[0].FOLDER}/."
        return shown


def build(run: Path | str) -> Path:
    """Write `report/report.html` of the run directory `run` and return its path.

    Sections: results, trust, what if, what the model sees, episodes, energy, guardrails, pictures, training, data,
    decisions, configuration, provenance.
    A section whose artefacts are not there is left out and named at the end with the command that makes it.

    Raises:
        RunError: no run directory.
        StorageError: the disk refused.
    """
    opened = Run.open(run)
    path = opened.report_dir / "report.html"
    atomic_write(path, render(opened).encode())
    return path


def render(run: Run) -> str:
    """The text of a run's page."""
    return html(_page(run, _Shelf(run)))


def html(page: Page) -> str:
    """A page as one file that needs nothing else."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from steersman import __version__

    environment = Environment(loader=PackageLoader("steersman.studio", "page"), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    folder = Path(__file__).parent / "page"
    script = (folder / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
              "base-uri 'none'; form-action 'none'")
    return environment.get_template("report.html.jinja").render(
        page=page, policy=policy, style=Markup((folder / "report.css").read_text("utf-8")), script=Markup(script),
        ramp=ramp_css(), version=__version__,
    )


def _page(run: Run, shelf: _Shelf) -> Page:
    manifest = run.manifest
    made = manifest.created.replace("T", " ").removesuffix("+00:00")
    page = Page(
        title=manifest.recipe.replace("/", ": ").replace("-", " ").capitalize(),
        over=f"{run.path.resolve().name}  ·  {made} UTC  ·  run {manifest.id}",
        foot=f"Written by steersman from {run.path.resolve().name}. Shows what the run directory holds; "
             "nothing was computed for this page.",
        command=" ".join(manifest.command),
    )
    results = _results(shelf, page)
    makers = (_trust, _what_if, _seen, _episodes, _energy, _guardrails, _pictures, _training, _data, _decisions)
    for section in (results, *(maker(shelf) for maker in makers)):
        if section.blocks or section.damaged:
            page.sections.append(section)
        elif section.how and not manifest.recipe.startswith("evidence/"):
            page.absent.append((section.title.lower(), section.how))
    page.sections += [_configuration(manifest), _provenance(run)]
    return page


# Sections ---------------------------------------------------------------------------------------------------------


def _results(shelf: _Shelf, page: Page) -> Section:
    """And the head of the page."""
    section = Section("results", "Results", how=shelf.measure)
    for summary in shelf.read(Summary, section)[:1]:
        page.title, page.learned = summary.title, summary.learned
        page.command = summary.command or page.command
        page.headlines = [
            {"title": h.title, "value": b.minus(q.number(h.figure.value, h.form)), "unit": h.unit, "n": h.figure.n,
             "interval": b.minus(q.interval(h.figure, h.form)), "note": h.note}
            for h in summary.headlines
        ]
        page.stages = [(name, q.duration(seconds)) for name, seconds in summary.seconds.items()]
        page.stages_bar = Markup(stages(summary.seconds))
    section.blocks = [b.table_block(table) for table in shelf.read(Table, section) if not _apart(table.name)]
    return section


def _trust(shelf: _Shelf) -> Section:
    intro = ("Predictions for the part of the log that was never trained on, beside no change and a linear model; "
             "bounds that hold for a stated share of them.")
    how = f"steersman evaluate {shelf.run.path} --offline"
    return _of_name(shelf, Section("trust", "Trust", intro, how=how), TRUST)


def _what_if(shelf: _Shelf) -> Section:
    return _of_name(shelf, Section("what-if", "What if", "Two plans from one logged moment, as the model sees it.",
                                   how=f"steersman what-if {shelf.run.path} --row N --action A"), WHAT_IF)


def _seen(shelf: _Shelf) -> Section:
    """Of a run whose log has a camera."""
    section = Section("seen", "What the model sees", _SEEN)
    films = shelf.show([x for x in shelf.read(Film, section) if _begins(x.name, SEEN)], b.film_block, section)
    section.blocks = [{"kind": "films", "title": "", "films": films}] if films else []
    section.blocks += b.chart_blocks((x for x in shelf.read(Lines, section) if _begins(x.name, SEEN)), small=True)
    maps = shelf.show([x for x in shelf.read(Map, section) if _begins(x.name, SEEN)], b.map_block, section)
    section.blocks += [{"kind": "maps", "maps": maps}] if maps else []
    section.damaged = []  # named where all films, curves and maps are read
    return section


def _of_name(shelf: _Shelf, section: Section, name: str) -> Section:
    """Tables and curves whose names begin with `name`."""
    tables = [table for table in shelf.read(Table, section) if _begins(table.name, name)]
    figures = [lines for lines in shelf.read(Lines, section) if _begins(lines.name, name)]
    section.blocks = [*map(b.table_block, tables), *b.chart_blocks(figures, small=True)]
    section.damaged = []  # named where all tables and curves are read
    return section


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}-")


def _apart(name: str) -> bool:
    """Whether an artefact stands in a section of its own, or in another one."""
    return any(_begins(name, prefix) for prefix in (TRUST, WHAT_IF, SEEN, COLLAPSE))


def _episodes(shelf: _Shelf) -> Section:
    section = Section("episodes", "Episodes", _FILMS, how=shelf.measure)
    films = sorted((x for x in shelf.read(Film, section) if not _apart(x.name)), key=lambda film: film.group)
    for group, members in groupby(films, key=lambda film: film.group):
        shown = shelf.show(list(members), b.film_block, section)
        if shown:
            section.blocks.append({"kind": "films", "title": group, "films": shown})
    return section


def _energy(shelf: _Shelf) -> Section:
    section = Section("energy", "Energy", how=shelf.measure)
    shown = shelf.show([x for x in shelf.read(Map, section) if not _apart(x.name)], b.map_block, section)
    section.blocks = [{"kind": "maps", "maps": shown}] if shown else []
    return section


def _guardrails(shelf: _Shelf) -> Section:
    section = Section("curves", "Margins and errors", how=shelf.measure)
    section.blocks = b.chart_blocks(lines for lines in shelf.read(Lines, section) if not _apart(lines.name))
    return section


def _pictures(shelf: _Shelf) -> Section:
    section = Section("pictures", "Pictures", how=shelf.measure)
    shown = shelf.show(shelf.read(Picture, section), b.picture_block, section)
    section.blocks = [{"kind": "pictures", "pictures": shown}] if shown else []
    return section


def _training(shelf: _Shelf) -> Section:
    section = Section("training", "Training", how=f"steersman train --resume {shelf.run.path}")
    section.blocks = [b.table_block(table) for table in shelf.read(Table, section) if table.name == COLLAPSE]
    section.damaged = []  # named with the results
    try:
        section.blocks += b.chart_blocks(metric_figures(shelf.run.metrics.read()), small=True)
    except RunError as error:
        section.damaged.append(str(error))
    return section


def _data(shelf: _Shelf) -> Section:
    section = Section("data", "Data", how="steersman train --data PATH")
    section.blocks = shelf.show(shelf.read(DataCard, section), b.data_block, section)
    return section


def _decisions(shelf: _Shelf) -> Section:
    section = Section("decisions", "Decisions", "What the planner considered, refused and chose, and what it cost.",
                      how=shelf.measure)
    for flight in shelf.read(Flight, section):
        section.blocks += b.flight_blocks(flight)
    return section


def _configuration(manifest: Manifest) -> Section:
    block = b.config_block({"seeds": manifest.seeds, **manifest.config})
    return Section("configuration", "Configuration", blocks=[block])


def _provenance(run: Run) -> Section:
    """Hashes, versions, machine, code: what it takes to make this run again, and to know that it is this run."""
    section = Section("provenance", "Provenance")
    manifest = run.manifest
    git = manifest.git
    facts = [("run", manifest.id), ("format", str(manifest.format)),
             ("code", "not under version control" if git is None else
              f"{git.commit[:12]}{' with changes' if git.dirty else ''}")]
    facts += [(k, b.setting(v)) for k, v in [*manifest.machine.items(), *manifest.versions.items()]]
    section.blocks.append({"kind": "card", "title": "", "facts": facts, "caption": "", "samples": "", "columns": []})
    rows: list[tuple[bool, list[str]]] = []
    for path in run.checkpoints():
        try:
            checkpoint = run.checkpoint(path.name)
        except RunError as error:
            section.damaged.append(str(error))
            continue
        rows += [(False, [f"{path.name}/{name}", q.size(record.bytes), record.sha256])
                 for name, record in checkpoint.manifest.files.items()]
    fingerprint = manifest.data.get("fingerprint")
    if fingerprint:
        rows.append((False, ["data", "", str(fingerprint)]))
    if rows:
        section.blocks.append(b.rows_block("SHA-256", ["file", "size", "hash"], rows, numeric=["size"],
                                           style="hashes"))
    return section
