"""`steersman export RUN`: a trained agent in a form that others can load or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from steersman.cli.agents import agent_at
from steersman.cli.command import option
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.terminal import Terminal
from steersman.core.errors import UsageError
from steersman.studio.quantities import size

if TYPE_CHECKING:
    from steersman.agent import Agent


@dataclass(frozen=True, kw_only=True)
class Export(Extensible):
    """Write a trained agent as a folder that others can load or run.

    onnx: perception, one step of the world model and the read-out as ONNX files with open batch sizes, each verified
    against torch within 1e-4 or not written. pretrained: config.json, model.safetensors and a filled model card, as
    model hubs expect them. torch-export: .pt2 programs for PyTorch alone (open only those that you made yourself).
    """

    EXAMPLE: ClassVar[str] = (
        "steersman export runs/pendulum --format onnx --out pendulum-onnx\n"
        "steersman export runs/pendulum --policy 'cos=1,sin=0,speed=0' --env Pendulum-v1 --out pendulum-policy\n"
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
    to action without search. A value of * (cos=*,speed=0) is told to the policy when it acts, as one more input: one
    network for many goals. How well it copies the planner is printed."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit that the plans behind --policy keep, e.g. --keep 'speed<=6'. The policy only copies: it promises none."""
    moments: int = 2000
    """Moments of the log that are planned for, with --policy."""
    env: Annotated[str, option("ID")] = ""
    """With --policy: let policy and planner act in this environment from the same starts; returns are printed."""
    goal: Annotated[str, option("GOAL")] = ""
    """With --env: where to (default: what --policy says)."""
    episodes: int = 20
    """With --env: episodes to act in."""
    seed: int = 0
    """With --env: starts and planning."""
    push: Annotated[str, option("OWNER/NAME")] = ""
    """With pretrained: send it to this repository of the Hugging Face hub as well, private."""
    checkpoint: str = "latest"
    """Which checkpoint of a run."""

    def __call__(self, terminal: Terminal) -> Done:
        if self.push and self.format != "pretrained":
            raise UsageError("--push with --format pretrained", f"--format {self.format}", "export it as pretrained")
        if (self.env or self.goal) and not self.policy:
            raise UsageError("--env and --goal with --policy", "none", "they let a policy act: say what it is for")
        if self.episodes < 1:
            raise UsageError("at least one episode", f"{self.episodes}", "raise --episodes")
        if self.policy and self.format != "onnx":
            raise UsageError("--policy with --format onnx", f"--format {self.format}", "export it as onnx")
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
            from steersman.agent import push_to_hub

            facts["pushed"] = push_to_hub(agent, self.push)
            terminal.say(f"sent to {facts['pushed']}")
        return Done({"run": self.run, "format": self.format, "out": str(out),
                     "bytes": sum(path.stat().st_size for path in files), **facts})

    def _written(self, agent: Agent, out: Path, terminal: Terminal) -> dict[str, Any]:
        if self.format == "pretrained":
            from steersman.agent import save_pretrained

            save_pretrained(agent, out)
            return {}
        from steersman import export

        missing = export.left_out(agent)
        for name, why in missing.items():
            terminal.say(f"left out: {name}, {why}")
        facts: dict[str, Any] = {"left_out": missing} if missing else {}
        if self.format == "torch-export":
            return {"worst": export.export_programs(agent, out), **facts}
        extra, told = self._policy(agent, terminal) if self.policy else ({}, {})
        return {"worst": dict(export.export_onnx(agent, out, extra=extra).worst), **facts, **told}

    def _policy(self, agent: Agent, terminal: Terminal) -> tuple[dict[str, Any], dict[str, Any]]:
        """The graph of a policy for `self.policy`, how faithful it is, and how well it acts."""
        import dataclasses

        from steersman.cli.distilled import closed_loop, distilled, task_of
        from steersman.export import policy_graph

        task, told = task_of(self.policy, self.keep, agent, self.run)
        if self.goal:
            task = task_of(self.goal, self.keep, agent, self.run)[0]
        elif told and self.env:
            raise UsageError("a goal to act towards, as the policy is told one", "none", "give --goal, e.g. "
                             f"--goal {','.join(f'{name}=0' for name in told)}")
        policy, fidelity = distilled(agent, self.run, self.policy, self.keep, self.moments, terminal)
        facts: dict[str, Any] = {"fidelity": dataclasses.asdict(fidelity)}
        if self.env:
            facts["closed_loop"] = closed_loop(agent, policy, task, self.env, self.episodes, self.seed, terminal)
        else:
            terminal.say("what it earns when it acts was not measured: --env ID does, beside the planner")
        return {"policy": policy_graph(agent, policy)}, facts
