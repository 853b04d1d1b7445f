"""A run and its log -> how far the model can be trusted, measured and kept with the run. Shared by several commands."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from steersman.core.errors import UsageError

if TYPE_CHECKING:
    from steersman.cli.terminal import Terminal
    from steersman.data import ReadOptions
    from steersman.runs import Run
    from steersman.runs.trust import Trust


def parts_of(run: Run) -> tuple[Any, Any]:
    """The part of the run's log that was learned from, and the part that was not, or None."""
    from steersman import training

    return training.split(training.stored_config(run), training.open_log(run))


def require_held_out(run: Run) -> tuple[Any, Any]:
    """The same.

    Raises:
        UsageError: all of the log was learned from.
    """
    learned, held_out = parts_of(run)
    if held_out is None:
        raise _nothing_held_out(run)
    return learned, held_out


def _nothing_held_out(run: Run) -> UsageError:
    from steersman import training

    config = training.stored_config(run)
    got = "nothing was held out: held_out is 0" if not config.held_out else (
        f"a log so short that a share of {config.held_out:g} holds no window of {config.window} steps")
    return UsageError(
        f"a part of the log that {run.path} was not trained on", got,
        "train again with --set held_out=0.1 (0.25 for fewer than 100 episodes), or give another log of the same world "
        "with --data",
    )


def measure_trust(
    run: Run, terminal: Terminal, *, checkpoint: str = "latest", log: str = "", horizon: int | None = None,
    seed: int = 0, options: ReadOptions | None = None,
) -> Trust:
    """Measure, write the record, its table and curves and the report.

    log      another log of the same world, instead of the held-out part of the run's own
    options  how to read it

    Raises:
        UsageError: all of the run's log was learned from, and no other is given.
    """
    from steersman import data
    from steersman.agent import Agent
    from steersman.evaluation import measure, trust_report
    from steersman.runs.artefacts import write
    from steersman.runs.trust import save_trust
    from steersman.studio import build

    agent = Agent.load(run, checkpoint)  # one that only learned to see foresees nothing, whatever was held out
    learned, held_out = parts_of(run)
    source = "the last part of the log, never trained on"
    with ExitStack() as stack:
        if log:
            place = Path(stack.enter_context(TemporaryDirectory())) / "cache"
            opened = data.read(log, options)
            held_out = data.Dataset.open(log) if opened.format == "cache" else data.build(opened, place)
            if held_out.fingerprint == learned.fingerprint:
                raise UsageError("a log that the run was not trained on", f"its own, {log}", "leave --data out")
            held_out, source = held_out.paced(agent.signature.pace), Path(log).name
        if held_out is None:
            raise _nothing_held_out(run)
        terminal.say(f"measuring on {source}: {len(held_out):,} episodes, {held_out.steps:,} steps")
        trust = measure(agent, learned, held_out, source=source,
                        checkpoint=run.checkpoint(checkpoint).step, horizon=horizon, seed=seed)
    save_trust(run, trust)
    write(run.path, trust_report.table(trust))
    for lines in trust_report.curves(trust):
        write(run.path, lines)
    build(run.path)
    return trust
