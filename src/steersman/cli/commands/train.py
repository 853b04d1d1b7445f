"""`steersman train`: a log and a recipe -> a run; or a run that was left -> the same run, finished."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import tyro

from steersman.cli import recipe as flags
from steersman.cli.command import option
from steersman.cli.company import place_in_company
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.logs import INFERRED, LogOptions, read_options
from steersman.cli.parse import listing
from steersman.cli.progress import Watcher, gauge_words
from steersman.cli.terminal import Terminal
from steersman.core.errors import DataError, RunError, SteersmanError, UsageError
from steersman.studio import quantities as q

if TYPE_CHECKING:
    from steersman.training import StagedLog
    from steersman.training.together import Together


@dataclass(frozen=True, kw_only=True)
class Train(Extensible):
    """Learn a world model from a log of observations and actions. No reward is needed.

    `--recipe NAME --help` shows the recipe's own options as well. Ctrl-C saves and stops; `--resume RUN` goes on, and
    needs nothing else. Everything is in one run directory. Several processes train as one under torchrun: each takes
    its part of every batch, the first alone reads the log, writes the run and talks.
    """

    TOGETHER: ClassVar[bool] = True

    EXAMPLE: ClassVar[str] = (
        "steersman train --recipe pendulum --data pendulum.csv --dry-run\n"
        "steersman train --recipe pendulum --data pendulum.csv --out runs/pendulum\n"
        "steersman train --resume runs/pendulum\n"
        "torchrun --nproc-per-node 2 -m steersman train --recipe pendulum --data pendulum.csv --out runs/pendulum"
    )

    data: Annotated[str, option("PATH")] = ""
    """The log, in any format that `steersman data formats` lists: a file, a folder, or the id of a Minari dataset."""
    recipe: Annotated[str, option("NAME")] = ""
    """What to learn and how: a name, or a Python file of yours (default: vectors, for a log without images)."""
    out: Annotated[Path | None, option("RUN")] = None
    """The new run directory (default: a new one under runs/)."""
    resume: Annotated[Path | None, option("RUN")] = None
    """Go on with this run where it was left."""
    dry_run: Annotated[bool, option()] = False
    """Check the data, run a few steps, forecast time, memory and disk; leave nothing."""
    seed: int = 0
    """All randomness of the training starts here."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("PATH=VALUE")] = ()
    """Change one value of the configuration, e.g. --set batch_size=64 --set agent.planner.samples=200."""
    log: Annotated[LogOptions, tyro.conf.OmitArgPrefixes] = INFERRED
    """What is not said about the columns of the log is inferred from names, types and ranges, and noted."""

    @classmethod
    def specialised(cls, words: Sequence[str]) -> type[Train]:
        name = flags.said(words, "--recipe")
        return flags.with_flags(cls, flags.named(name)) if name else cls

    @classmethod
    def epilogue(cls) -> str:
        from steersman.recipes import RECIPES

        return listing("recipes", {name: line for name, (_, line) in RECIPES.items()})

    def __call__(self, terminal: Terminal) -> Done:
        rank, size = place_in_company()
        if rank:
            return _follow()
        if self.dry_run and size > 1:
            raise UsageError("one process for --dry-run", f"{size}", "call it without torchrun")
        if self.resume is not None:
            return self._resume(terminal)
        if not self.data:
            fix = "give --data PATH (`steersman collect` records one), or --resume RUN"
            raise UsageError("a log to learn from", "none", fix)
        if self.out is not None and self.out.exists():
            fix = "choose another, or --resume it"
            raise RunError(f"a new folder for the run at {self.out}", "one that is in use", fix)
        from steersman import data, training
        from steersman.runs import new_run_path
        from steersman.training.together import together

        config = self._config(self.recipe) if self.recipe else None
        source = data.read(self.data, read_options(self.log))
        name = self.recipe or _fitting(source)
        config = config or self._config(name)
        out = self.out or new_run_path("runs", Path(name).stem)
        with ExitStack() as stack:
            here = stack.enter_context(together())
            watcher = stack.enter_context(Watcher(terminal))
            place = Path(stack.enter_context(TemporaryDirectory())) / "run" if self.dry_run else out
            log = None  # one that is a cache already is used where it is
            if source.format != "cache":
                log = stack.enter_context(training.StagedLog(place, lambda path: data.build(
                    source, path, lambda done, total: watcher.count("reading", done, total))))
                watcher.close()
            dataset = data.Dataset.open(source.path) if log is None else log.dataset
            _say_data(terminal, dataset, source)
            config = _looked(terminal, config, dataset)
            if self.dry_run:
                return _forecast(terminal, config, dataset)
            return self._train(terminal, watcher, here, name, config, dataset, log, out)

    def _config(self, name: str) -> Any:
        """The training configuration that the recipe `name` returns for these words."""
        function = flags.named(name)
        arguments = flags.arguments(self, function)
        config = function(**arguments)
        if "seed" not in arguments:
            config = msgspec.structs.replace(config, seed=self.seed)
        return flags.changed(config, self.set)

    def _train(
        self, terminal: Terminal, watcher: Watcher, here: Together, name: str, config: Any, dataset: Any,
        log: StagedLog | None, out: Path,
    ) -> Done:
        from steersman import training
        from steersman.data.card import data_card
        from steersman.runs.artefacts import write

        staged = None if log is None else log.place
        with training.create_run(out, config, dataset, recipe=name, log=staged) as run:
            terminal.after_interrupt = f"; `steersman train --resume {run.path}` goes on"
            terminal.say(f"run {run.path}")
            try:
                write(run.path, *data_card(dataset, source=self.data))
                here.tell({"run": str(run.path), "begun": False})
                with here.joined(config.device):
                    trained = training.train(config, dataset, run, progress=watcher)
            except SteersmanError:
                if not run.checkpoints():  # it never began: there is nothing to go on with
                    shutil.rmtree(run.path, ignore_errors=True)
                raise
        watcher.close()
        return _finish(terminal, trained, dataset)

    def _resume(self, terminal: Terminal) -> Done:
        if self.data or self.recipe or self.out or self.set or self.dry_run:
            raise UsageError("--resume RUN alone", "other options beside it", "a run knows its data and configuration")
        from steersman import training
        from steersman.runs import Run
        from steersman.training.together import together

        assert self.resume is not None
        terminal.after_interrupt = f"; `steersman train --resume {self.resume}` goes on"
        terminal.say(f"run {self.resume}")
        with together() as here, Watcher(terminal) as watcher:
            run = Run.open(self.resume)
            dataset = training.open_log(run)
            here.tell({"run": str(run.path), "begun": True})
            with here.joined(training.stored_config(run).device):
                trained = training.resume(run.path, dataset=dataset, progress=watcher)
        return _finish(terminal, trained, dataset)


def _follow() -> Done:
    """Train along, silently, once the first process says where."""
    from steersman import training
    from steersman.runs import Run
    from steersman.training.together import together

    with together() as here:
        word = here.hear()
        if word is None:
            return Done(code=1)
        run = Run.open(word["run"])
        config = training.stored_config(run)
        with here.joined(config.device):
            if word["begun"]:
                trained = training.resume(run.path)
            else:
                trained = training.train(config, training.open_log(run), None)
        return Done(code=0 if trained.finished else 1)


def _fitting(source: Any) -> str:
    """The recipe for a log that comes without one: that for vectors, if all of its observations are; that for pictures,
    if each is a moment of its own; that which foresees where nobody acts, and for fields, sounds and text."""
    from steersman.recipes import RECIPES

    kinds = {spec.kind for spec in source.signature.observations.values()}
    if source.signature.action.kind == "none" or kinds - {"image", "vector"}:
        return "pictures" if kinds == {"image"} and source.steps == 0 else "foresee"
    if kinds != {"vector"}:
        what = " and ".join(sorted(kinds - {"vector"}))
        raise UsageError(f"a recipe of {', '.join(RECIPES)}", f"none, for a log with {what}", "give --recipe NAME")
    return "vectors"


def _say_data(terminal: Terminal, dataset: Any, source: Any) -> None:
    shapes = [f"{k} {s.kind} {'×'.join(map(str, s.shape))}" for k, s in source.signature.observations.items()]
    action = source.signature.action
    kind = f"{action.choices} choices" if action.kind == "discrete" else f"{action.size} continuous"
    acts = f"action {kind}" if action.kind != "none" else "nobody acts"
    size = f"{dataset.steps:,} steps" if dataset.steps else "single moments"
    terminal.say(f"data {source.path}: {len(dataset):,} episodes, {size}; {', '.join(shapes)}; {acts}")
    for note in source.notes:
        terminal.say(terminal.style(f"  {note}", "dim"))


def _looked(terminal: Terminal, config: Any, dataset: Any) -> Any:
    """Say what is the matter with the log's cameras, and settle a pace that the log is to choose.

    Raises:
        DataError: nothing to see: the log's only observation is a camera that shows one picture, or none.
    """
    from steersman import data

    chosen = config.pace == "auto"
    looked = data.examine_cameras(dataset, actions=chosen)
    for finding in looked.findings:
        if finding.state != "note":
            terminal.say(terminal.style(f"  ! {finding.what}: {finding.fix}", "warn"))
    blind = next((f for f in looked.findings if f.kind == "constant-image" or "range" in f.figures), None)
    if blind is not None and len(dataset.signature.observations) == 1:
        raise DataError("a camera that shows something", blind.what, blind.fix)
    name = next((name for name, spec in dataset.signature.observations.items() if spec.kind == "image"), "")
    tiles = data.lattice_for(dataset, name) if name else None
    if tiles is not None:
        terminal.say(f"  {name} is drawn in tiles of {tiles.patch} pixels: recipe pixels takes them with --tiles")
    if not chosen:
        return config
    if looked.visibility is not None:
        terminal.say(f"  {looked.visibility.words}")
    terminal.say(f"  pace: {looked.pace.words()}")
    return msgspec.structs.replace(config, pace=looked.pace)


def _forecast(terminal: Terminal, config: Any, dataset: Any) -> Done:
    from steersman.training.forecast import forecast

    f = forecast(config, dataset)
    cache = sum(field.size for field in dataset.index.fields.values())
    terminal.heading("forecast", "measured on this machine, as busy as it is now")
    terminal.pairs([
        ("time", f"{q.duration(f.seconds)} for {config.steps:,} steps "
                 f"({', '.join(q.duration(s) for s in f.step_seconds)} a step)"),
        ("memory", f"{q.size(f.memory_bytes)} so far" if f.memory_bytes else ""),
        ("disk", f"{q.size(cache)} for the log, {q.size(f.disk_bytes)} for checkpoints and metrics"),
        ("parameters", f"{f.parameters:,}"), ("first loss", f"{f.loss:.4g}"),
    ])
    terminal.say()
    terminal.say("data and recipe fit together; nothing was written")
    return Done({"seconds": f.seconds, "step_seconds": f.step_seconds, "memory_bytes": f.memory_bytes,
                 "disk_bytes": cache + f.disk_bytes, "parameters": f.parameters, "loss": f.loss, "steps": config.steps,
                 "episodes": len(dataset), "log_steps": dataset.steps})


def _finish(terminal: Terminal, trained: Any, dataset: Any) -> Done:
    """Fit the read-out, have the model shown, write the report, say how it ended."""
    from steersman.agent.fitting import fit_readout
    from steersman.cli.seen import show
    from steersman.runs import Run
    from steersman.studio import build
    from steersman.training import advise, split, stored_config

    path = trained.run
    assert path is not None
    run = Run.open(path)
    if trained.finished:
        learned, _ = split(stored_config(run), dataset)
        fit_readout(run, learned)
        show(run, dataset, terminal)
    gauges = _last_gauges(run)
    stored = stored_config(run)
    advice = advise(gauges, stored.objectives, dataset.signature.action.kind != "none")
    report = build(path)
    facts = {"run": str(path), "step": trained.step, "finished": trained.finished, "loss": trained.loss,
             "seconds": trained.seconds, "data_wait": trained.data_wait, "gauges": gauges, "report": str(report),
             "advice": str(advice or "")}
    if not trained.finished:
        terminal.say(f"stopped after step {trained.step}, saved; `steersman train --resume {path}` goes on")
        return Done(facts, code=1)
    words = ", ".join([f"loss {trained.loss:.3g}", *gauge_words(gauges)])
    terminal.say(f"trained for {q.duration(trained.seconds)}: {words}")
    if advice is not None:
        terminal.say(f"the latent has collapsed, {advice}")
    terminal.say(f"report {report}")
    return Done(facts)


def _last_gauges(run: Any) -> dict[str, float]:
    for row in reversed(run.metrics.read()):
        found = {k.removeprefix("gauge/"): v for k, v in row.items() if k.startswith(("gauge/", "probe"))}
        if found:
            return found
    return {}
