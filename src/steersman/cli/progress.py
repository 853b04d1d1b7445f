"""Long work as it goes: a live panel on a terminal, a plain line every few seconds elsewhere.

Gets what `training.train(progress=…)` hands out, by its attribute names; knows nothing of what is being trained.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from steersman.cli.terminal import Terminal
from steersman.studio import quantities as q

if TYPE_CHECKING:
    from collections.abc import Mapping

    from steersman.training import Progress

EVERY = 5.0
"""Seconds between plain lines."""
_BLOCKS = "▁▂▃▄▅▆▇█"


class Watcher:
    """Shows training (`watcher(progress)`), counting (`watcher.count`) and messages (`watcher.say`)."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._live: Any = None
        self._shown = self._drawn = 0.0
        self._losses: deque[float] = deque(maxlen=4096)
        self._label = ""
        self._advised = ""

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last state on the screen."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        self._shown, self._label = 0.0, ""

    def say(self, message: str) -> None:
        """One line, above whatever is live."""
        self.close()
        self.terminal.say(message)

    def count(self, label: str, done: int, total: int | None) -> None:
        """So much of a job is done; `total` None: not known."""
        last = total is not None and done >= total > 0  # pictures alone are episodes of no step
        if self.terminal.interactive:
            share = done / total if total else 0.0
            text = f"{done:,} of {total:,}" if total else f"{done:,}"
            self._draw(label, lambda: _rows([_bar(label, share, text, "")]), last)
        elif last or self._due(label):
            self.terminal.say(f"{label}: {done:,}" + (f" of {total:,} ({100 * done / total:.0f}%)" if total else ""))

    def __call__(self, progress: Progress) -> None:
        """One step of training."""
        self._losses.append(progress.loss)
        last = progress.step >= progress.steps
        if self.terminal.interactive:
            self._draw("training", lambda: panel(progress, list(self._losses)), last)
        elif last or self._due("training"):
            self.terminal.say(line(progress))
            advice = str(progress.advice or "")
            if advice and advice != self._advised:
                self.terminal.say(advice)
            self._advised = advice

    def _due(self, label: str) -> bool:
        now = time.monotonic()
        if label != self._label:
            self._label, self._shown = label, now - EVERY + 1.0  # the first line of a job after one second
        if now - self._shown < EVERY:
            return False
        self._shown = now
        return True

    def _draw(self, label: str, render: Any, last: bool) -> None:
        now = time.monotonic()
        if self._live is not None and not last and now - self._drawn < 0.1:
            return
        from rich.console import Console
        from rich.live import Live

        if self._live is None or label != self._label:
            self.close()
            self._label = label
            colour = None if self.terminal.colour else True
            self._live = Live(console=Console(file=self.terminal.stream, no_color=colour), auto_refresh=False)
            self._live.start()
        self._drawn = now
        self._live.update(render(), refresh=True)
        if last:
            self.close()


def line(p: Progress) -> str:
    """Everything in one line.

    >>> from types import SimpleNamespace as Of
    >>> line(Of(step=60, steps=240, loss=1.25, parts={}, gauges={"std_mean": .9, "std_least": .5}, data_wait=.02,
    ...         eta_seconds=83.0))
    'step 60/240 (25%), 1:23 left, loss 1.25, data wait 2%, std 0.90 (least 0.50)'
    """
    words = [f"step {p.step}/{p.steps} ({100 * p.step // p.steps}%)", f"{q.clock(p.eta_seconds)} left",
             f"loss {p.loss:.3g}", f"data wait {100 * p.data_wait:.0f}%", *gauge_words(p.gauges)]
    return ", ".join(words)


def gauge_words(gauges: Mapping[str, float]) -> list[str]:
    """Collapse gauges and the probe, as short as they can be said."""
    words = []
    if "std_mean" in gauges:
        words.append(f"std {gauges['std_mean']:.2f} (least {gauges.get('std_least', 0.0):.2f})")
    if "effective_rank" in gauges:
        words.append(f"rank {gauges['effective_rank']:.1f}")
    if "error_vs_still" in gauges:
        words.append(f"error vs still {gauges['error_vs_still']:.3f}")
    probe = [f"{name.partition('/')[2]} ±{value:.2f}" for name, value in gauges.items() if name.startswith("probe/")]
    return [*words, *(["probe " + " ".join(probe[:6])] if probe else [])]


def spark(values: list[float], wide: int = 40) -> str:
    """A curve of block letters, logarithmic, the newest to the right.

    >>> spark([8.0, 4.0, 2.0, 1.0], 4)
    '█▅▃▁'
    """
    import math

    good = [math.log(v) for v in values if v > 0 and math.isfinite(v)]
    if len(good) < 2:
        return ""
    size = max(1, math.ceil(len(good) / wide))
    means = [sum(piece) / len(piece) for piece in (good[i : i + size] for i in range(0, len(good), size))]
    low, high = min(means), max(means)
    return "".join(_BLOCKS[int((m - low) / (high - low or 1) * 7)] for m in means)


def panel(p: Progress, losses: list[float]) -> Any:
    """The live panel: bar, loss with its course, parts, gauges."""
    from rich.text import Text

    pace = (p.steps - p.step) / p.eta_seconds if p.eta_seconds > 0 else 0.0
    aside = f"{q.clock(p.eta_seconds)} left" + (f"  {pace:.1f}/s" if pace else "") + f"  data wait {p.data_wait:.0%}"
    parts = "  ".join(f"[dim]{name}[/] {value:.3g}" for name, value in p.parts.items())
    gauges = "  ".join(gauge_words(p.gauges))
    rows: list[Any] = [_bar("training", p.step / p.steps, f"{p.step}/{p.steps}", aside),
                       Text.from_markup(f"  loss {p.loss:<9.4g} [cyan]{spark(losses)}[/]")]
    rows += [Text.from_markup("  " + parts, overflow="ellipsis")] if parts else []
    rows += [Text(f"  {gauges}", overflow="ellipsis")] if gauges else []
    if p.advice is not None:
        rows.append(Text(f"  {p.advice}; or stop with Ctrl-C", "bold red"))
    return _rows(rows)


def _bar(label: str, share: float, text: str, aside: str) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(1.0, share, width=32, complete_style="cyan", finished_style="green", style="grey37")
    grid.add_row(f"[bold]{label}[/]", bar, f"{share:4.0%}", text, f"[dim]{aside}[/]")
    return grid


def _rows(rows: list[Any]) -> Any:
    from rich.console import Group

    return Group(*rows)
