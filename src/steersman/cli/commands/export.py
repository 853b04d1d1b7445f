"""`steersman export RUN`: a trained agent in a form that others can load or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from steersman.cli import imports
from steersman.cli.agents import agent_at
from steersman.cli.command import Command, Done, option
from steersman.cli.imports import Modules
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError
from steersman.studio.quantities import size

if TYPE_CHECKING:
    from steersman.agent import Agent


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a trained agent as a folder that others can load or run.

    onnx: perception, one step of the world model and the read-out as ONNX files with open batch sizes, each verified
    against torch within 1e-4 or not written. pretrained: config.json, model.safetensors and a filled model card, as
    model hubs expect them. torch-export: .pt2 programs for PyTorch alone (open only those that you made yourself).
    """

    EXAMPLE: ClassVar[str] = (
        "steersman export runs/pendulum --format onnx --out pendulum-onnx\n"
        "steersman export runs/pendulum --format pretrained --out pendulum-model"
    )

    run: Annotated[str, tyro.conf.Positional, option("RUN")]
    """A run's directory, a pretrained folder, or a hub's OWNER/NAME."""
    format: Literal["onnx", "pretrained", "torch-export"] = "onnx"
    """What to write."""
    out: Annotated[Path | None, option("DIR")] = None
    """The folder to write (default: beside the run, named after the format)."""
    policy: Annotated[str, option("GOAL")] = ""
    """With onnx: distil a policy for this goal (cos=1,speed=0) from plans on the run's log, as policy.onnx: observation
    to action without search. How well it copies the planner is printed."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit that the plans behind --policy keep, e.g. --keep 'speed<=6'. The policy only copies: it promises none."""
    moments: int = 2000
    """Moments of the log that are planned for, with --policy."""
    push: Annotated[str, option("OWNER/NAME")] = ""
    """With pretrained: send it to this repository of the Hugging Face hub as well, private."""
    checkpoint: str = "latest"
    """Which checkpoint of a run."""
    imports: Modules = ()
    """A module, or FILE.py, that registers parts of your own; a run never imports one by itself."""

    def __call__(self, terminal: Terminal) -> Done:
        if self.push and self.format != "pretrained":
            raise UsageError("--push with --format pretrained", f"--format {self.format}", "export it as pretrained")
        if self.policy and self.format != "onnx":
            raise UsageError("--policy with --format onnx", f"--format {self.format}", "export it as onnx")
        imports.load(self.imports)
        agent = agent_at(self.run, self.checkpoint)
        out = self.out or Path(f"{Path(self.run).name}-{self.format}")
        facts = self._written(agent, out, terminal)
        terminal.heading(f"{self.format} in {out}")
        files = sorted(path for path in out.iterdir() if path.is_file())
        differences: dict[str, float] = facts.get("worst", {})
        rows = [(path.name, size(path.stat().st_size),
                 f"{differences[path.stem]:.1e}" if path.stem in differences else "") for path in files]
        terminal.grid(("file", "size", "difference from torch" if differences else ""), rows)
        if self.push:
            facts["pushed"] = agent.push_to_hub(self.push)
            terminal.say(f"sent to {facts['pushed']}")
        return Done({"run": self.run, "format": self.format, "out": str(out),
                     "bytes": sum(path.stat().st_size for path in files), **facts})

    def _written(self, agent: Agent, out: Path, terminal: Terminal) -> dict[str, Any]:
        if self.format == "pretrained":
            agent.save_pretrained(out)
            return {}
        from steersman import export

        if self.format == "torch-export":
            return {"worst": export.export_programs(agent, out)}
        extra, facts = self._policy(agent, terminal) if self.policy else ({}, {})
        return {"worst": dict(export.export_onnx(agent, out, extra=extra).worst), **facts}

    def _policy(self, agent: Agent, terminal: Terminal) -> tuple[dict[str, Any], dict[str, Any]]:
        """The graph of a policy for `self.policy`, and how faithful it is."""
        import dataclasses

        from steersman.agent.distilling import distil
        from steersman.cli import goals
        from steersman.cli.progress import Watcher
        from steersman.core import Task
        from steersman.export import policy_graph
        from steersman.runs import Run
        from steersman.training import open_data

        task = Task(goals.goal(self.policy, agent.signature), guardrails=goals.limits(self.keep, agent.readout))
        dataset = open_data(Run.open(self.run))
        with Watcher(terminal) as watcher:
            policy, fidelity = distil(agent, task, dataset, moments=self.moments,
                                      watch=lambda done, total: watcher.count("moments planned", done, total))
        unit = "share of other choices" if policy.kind == "discrete" else "half the action's range"
        terminal.say(f"policy for {self.policy}: differs from the planner's action by {fidelity.error:.3f} on "
                     f"{fidelity.moments} held-out moments ({unit}); the planner from itself by "
                     f"{fidelity.planner:.3f}, a constant action by {fidelity.constant:.3f}")
        return {"policy": policy_graph(agent, policy)}, {"fidelity": dataclasses.asdict(fidelity)}


COMMAND = Export
