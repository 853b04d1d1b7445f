"""What a run shows of itself once it is trained: films, curves, maps and gauges, for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steersman.core.errors import SteersmanError

if TYPE_CHECKING:
    from steersman.cli.terminal import Terminal
    from steersman.runs import Run


def show(run: Run, log: Any, terminal: Terminal) -> None:
    """Write what there is to look at; where something cannot be shown, say why in one line and go on: the run is
    trained all the same.

    log  the run's own, row by row
    """
    from steersman.evaluation import show_seen
    from steersman.runs.artefacts import write
    from steersman.training import stored_config
    from steersman.training.gauge_report import collapse_table
    from steersman.training.parts import shown

    config = stored_config(run)
    table = collapse_table(run.metrics.read(), config.objectives, log.signature.action.kind != "none")
    try:
        if table is not None:
            write(run.path, table)
        if any(spec.kind == "image" for spec in log.signature.observations.values()):
            show_seen(run, *shown(config, log))
    except SteersmanError as error:
        terminal.say(f"nothing to look at: {error}")
