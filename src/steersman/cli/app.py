"""From words to a command and from its outcome to an exit code: 0 done, 1 failed, 2 usage.

Knows the commands' names and one line about each; knows nothing of what they do.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from steersman.cli.company import place_in_company
from steersman.core.errors import SteersmanError

if TYPE_CHECKING:
    from steersman.cli.command import Command

COMMANDS: dict[str, str] = {
    "demo": "learn two rooms from random wandering, reach goals, keep out of forbidden places, leave a report",
    "collect": "record a log: random actions in a world of ours or in any Gymnasium environment",
    "init": "propose a recipe for a log, as a Python file to edit",
    "train": "learn a world model from a log; --resume continues, --dry-run forecasts",
    "fit": "fit a margin, a guardrail or a cost to a run's log, and keep it with the run",
    "evaluate": "measure a trained agent under a frozen protocol, beside the random floor",
    "run": "act with a trained agent towards a goal that you name",
    "explore": "go where the ensemble disagrees, inside limits; train on it, say what to record next",
    "status": "say on one page what a run is doing: steps, success, surprise, updates, guardrails, disk",
    "why": "explain a decision of an agent: what it weighed, what guardrails refused, what it expected",
    "replay": "make recorded decisions again, and compare bit for bit",
    "rehearse": "search for states from which a guardrail fails, before the world finds them",
    "what-if": "compare two plans from a logged moment, within bounds",
    "export": "write a trained agent as ONNX, as a folder for model hubs, or as torch.export programs",
    "serve": "answer requests for actions on this machine: loopback, a token, guardrails that no client can drop",
    "levels": "show what changes in a run, driven by what, and how often: declared beside measured",
    "report": "write a run's report: one HTML file that needs nothing else",
    "inspect": "say what a run, checkpoint, dataset or log holds; executes nothing",
    "data convert": "bring a log into another file format",
    "data doctor": "examine a log before training: what is broken, what it can teach, what to log next",
    "data schema": "say what each column of a log is, as a file to edit",
    "data formats": "list the file formats that can be read and written",
    "doctor": "check this machine and the installed packages; say what to change",
    "evidence": "perform the experiment behind a printed figure",
    "completion": "print shell completion for bash or zsh",
}
"""Name -> one line about it. A name of two words belongs to a group: `steersman data` lists the group's commands."""
_PLACES = {"run": "act"}  # a command whose module and class are named otherwise than its words

HELP = """\
usage: steersman COMMAND [options]

Learn how a world works from logs of observations and actions, plan in what was learned, stay inside limits.

commands:
{commands}

options:
  -h, --help        this text; `steersman COMMAND --help` for a command's own
  --version         the version
  --debug           with any command: show the traceback of an error
  --json            with any command: end standard output with one JSON object

exit codes: 0 done, 1 failed, 2 usage

example:
  steersman demo
"""

GROUP_HELP = """\
usage: steersman {group} COMMAND [options]

commands:
{commands}

`steersman {group} COMMAND --help` for a command's own options and an example
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        code = _guarded(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader left; say nothing, and keep Python from saying it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def command(name: str) -> type[Command]:
    """The class behind a command's name: "data doctor" is `DataDoctor` of `commands.data_doctor`."""
    place = _PLACES.get(name, name).replace(" ", "_").replace("-", "_")
    found: type[Command] = getattr(importlib.import_module(f".commands.{place}", __package__),
                                   place.title().replace("_", ""))
    return found


def _guarded(words: list[str]) -> int:
    """Every way to end, as an exit code and at most one line on standard error."""
    try:
        return _dispatch(words)
    except SteersmanError as error:
        return _fail(words, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(words, "stopped by the keyboard", 1)
    except BrokenPipeError:
        raise
    except SystemExit as stop:  # tyro: 0 after --help, 2 after a usage error that it has explained
        return stop.code if isinstance(stop.code, int) else 2
    except (OSError, MemoryError) as error:
        fix = "free what is short, or choose another place"
        return _fail(words, f"expected room and permission to work; got {type(error).__name__}: {error}; {fix}", 1)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return _fail(words, f"a defect of steersman, not of yours: {text}; --debug shows where, please report it", 1)


def _fail(words: list[str], line: str, code: int) -> int:
    if "--debug" in words:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"steersman: {line}\n")
    return code


def _dispatch(words: list[str]) -> int:
    match words:
        case [] | ["-h" | "--help" | "help", *_]:
            sys.stdout.write(_help())
            return 0
        case ["--version" | "version", *_]:
            from steersman import __version__

            sys.stdout.write(f"steersman {__version__}\n")
            return 0
        case ["--print-completion", *rest]:
            return _dispatch(["completion", *rest])
        case ["--debug" | "--json" as option, name, *rest]:
            return _dispatch([name, option, *rest])
        case [name, *rest] if name in COMMANDS:
            return _run(name, rest)
        case [group, name, *rest] if f"{group} {name}" in COMMANDS:
            return _run(f"{group} {name}", rest)
        case [group, *rest] if members := _members(group):
            return _group(group, members, rest)
    return _unknown(words[0])


def _members(group: str) -> dict[str, str]:
    return {name: line for name, line in COMMANDS.items() if name.startswith(f"{group} ")}


def _group(group: str, members: dict[str, str], rest: list[str]) -> int:
    """A group without one of its commands: what there is."""
    match rest:
        case [] | ["-h" | "--help", *_]:
            sys.stdout.write(GROUP_HELP.format(group=group, commands=_lines(members)))
            return 0
        case ["--debug" | "--json" as option, name, *others]:
            return _dispatch([group, name, option, *others])
    return _unknown(f"{group} {rest[0]}")


def _unknown(name: str) -> int:
    near = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
    hint = f"did you mean `{near[0]}`?" if near else "`steersman --help` lists them"
    sys.stderr.write(f"steersman: expected a command of {', '.join(COMMANDS)}; got {name!r}; {hint}\n")
    return 2


def _run(name: str, words: list[str]) -> int:
    from steersman.cli.imports import Extensible, load
    from steersman.cli.parse import parse
    from steersman.cli.terminal import Terminal

    kind, (rank, size) = command(name), place_in_company()
    if size > 1:  # torch, once it is loaded, would warn in every process of parameters that rest on purpose
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with open(os.devnull, "w") as nowhere, ExitStack() as hushed:
        if rank:  # what is to be said about these words, the first process says
            hushed.enter_context(redirect_stdout(nowhere))
            hushed.enter_context(redirect_stderr(nowhere))
        call = parse(kind, name, words)
    if size > 1 and not kind.TOGETHER:
        line = f"expected one process for `{name}`; got {size}; torchrun is for `train`"
        return 2 if rank else _fail(words, line, 2)
    terminal = Terminal(json=call.json and not rank)
    if isinstance(call, Extensible):
        load(call.imports)
    try:
        done = call(terminal)
    except KeyboardInterrupt:
        return _fail(words, f"stopped by the keyboard{terminal.after_interrupt}", 1)
    terminal.finish(done)
    return done.code


def _help() -> str:
    return HELP.format(commands=_lines(COMMANDS))


def _lines(commands: dict[str, str]) -> str:
    width = max(map(len, commands))
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in commands.items())
