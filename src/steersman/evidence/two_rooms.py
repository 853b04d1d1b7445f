"""Two rooms from pixels: the demo as an experiment. Figures, tables and pictures are the demo's own.

What is measured, and beside what, is said in `recipes.demo`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steersman.evidence.cell import Cell, Context, Found, Outcome, Results
from steersman.evidence.drawing import png
from steersman.recipes.demo import Sizes, demo
from steersman.runs.artefacts import Artefact, Figure, Film, Lines, Map, Picture, Table, image_bytes, read_all
from steersman.studio import build


def cells(seed: int, sizes: Sizes = Sizes()) -> tuple[Cell, ...]:  # noqa: B008 (frozen)
    """The demo, whole."""
    return (Cell("demo", perform, 350, seed, sizes),)


def perform(context: Context) -> Found:
    """Run the demo in a folder of its own, `demo`, with its own report; bring its results up here."""
    path = context.folder / "demo"
    facts = demo(path, context.seed, Watcher(context), context.settings)
    build(path)
    table = read_all(path, Table)[0][0]
    picture = Picture(
        name="success", title="Goals reached", file="success.png",
        alt="share of goals reached by the agent, its baselines and the random walker, with intervals",
        caption="Share of episodes in which the goal was reached; bars are Wilson's 95% intervals. Rows of a group "
                "have the same starts and goals.",
    )
    artefacts: list[tuple[Artefact, dict[str, bytes]]] = [(picture, {"success.png": _draw(table)})]
    for kind in (Table, Film, Map, Lines):
        for artefact in read_all(path, kind)[0]:
            artefacts.append((artefact, {name: image_bytes(path, kind, name) for name in artefact.images()}))
    return Found({"": {key: value for key, value in facts.items() if key not in ("run", "seed")}},
                 artefacts=tuple(artefacts))


def summary(results: Results) -> Outcome:
    """The demo's own figures, under the names of `demo --json`."""
    (one,) = results
    shown = list(one.artefacts())
    tables = tuple(artefact for artefact, _ in shown if isinstance(artefact, Table))
    return Outcome(one.kept.figures, tables, tuple(pair for pair in shown if not isinstance(pair[0], Table)))


class Watcher:
    """What the demo tells, as far as an experiment's context can pass it on."""

    def __init__(self, context: Context) -> None:
        self.say: Callable[[str], None] = context.say
        self._progress = context.progress

    def count(self, label: str, done: int, total: int | None) -> None:
        """Counting is passed on where whoever watches can show it."""
        show = getattr(self._progress, "count", None)
        if show is not None:
            show(label, done, total)

    def __call__(self, progress: Any) -> None:
        if self._progress is not None:
            self._progress(progress)


def _draw(table: Table) -> bytes:
    from matplotlib.figure import Figure as Canvas

    rows = list(reversed(table.rows))
    canvas = Canvas(figsize=(7, 0.34 * len(rows) + 0.9), layout="constrained")
    axes = canvas.subplots()
    for i, row in enumerate(rows):
        figure = row.figures.get("success", Figure(value=None))
        if figure.value is None or figure.low is None or figure.high is None:
            continue
        colour = "#0072b2" if row.kind == "agent" else "#999999"
        axes.plot([100 * figure.low, 100 * figure.high], [i, i], color=colour, linewidth=2)
        axes.plot(100 * figure.value, i, "o", color=colour)
    axes.set_yticks(range(len(rows)), [f"{row.label}\n{row.group}" for row in rows], fontsize="x-small")
    axes.set_xlim(0, 101)
    axes.set_xlabel("goals reached (%)")
    return png(canvas)
