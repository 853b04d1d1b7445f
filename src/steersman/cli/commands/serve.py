"""`steersman serve RUN`: a trained agent behind a small HTTP interface on this machine."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from steersman.cli.agents import agent_at
from steersman.cli.command import option
from steersman.cli.done import Done
from steersman.cli.imports import Extensible
from steersman.cli.terminal import Terminal

if TYPE_CHECKING:
    from steersman.serving import Desk


@dataclass(frozen=True, kw_only=True)
class Serve(Extensible):
    """Serve a trained agent over HTTP on the loopback interface, until Ctrl-C.

    Every request needs the token that is printed at the start (or that STEERSMAN_TOKEN or --token-file gives). Limits
    set with --keep hold for every decision: no request can switch them off. Pages in a browser are refused.
    """

    EXAMPLE: ClassVar[str] = (
        "steersman serve runs/pendulum --port 8642 --keep 'speed<=6' --trusted\n"
        "STEERSMAN_TOKEN=$(cat token) steersman serve runs/pendulum"
    )

    run: Annotated[str, tyro.conf.Positional, option("RUN")]
    """A run's directory, a pretrained folder, or a hub's OWNER/NAME."""
    port: int = 8642
    """The port; 0 takes any free one."""
    host: str = "127.0.0.1"
    """A loopback address; others are refused (use an SSH tunnel or a reverse proxy)."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, option("LIMIT")] = ()
    """A limit that holds at every imagined step, e.g. --keep 'speed<=6', or the name of a kept guardrail; may be given
    several times."""
    token_file: Annotated[Path | None, option("FILE")] = None
    """A file with the token that only you can read (default: STEERSMAN_TOKEN, or a new one)."""
    horizon: int = 64
    """Most steps that a client may ask a plan for."""
    seconds: float = 5.0
    """Most planning time that a client may ask for."""
    queue: int = 16
    """Requests that may wait; more are told to come back."""
    body: Annotated[int, option("MIB")] = 16
    """Largest request."""
    checkpoint: str = "latest"
    """Which checkpoint of a run."""
    trusted: Annotated[bool, option()] = False
    """Plan no farther than the horizon that `steersman evaluate RUN --offline` measured, whatever a client asks for."""
    no_record: Annotated[bool, option()] = False
    """Do not write down the decisions in the run (see `steersman why`); a pretrained folder records none."""

    def __call__(self, terminal: Terminal) -> Done:
        from steersman.cli.goals import limits
        from steersman.runs import Run
        from steersman.serving import Desk, Limits, Server, read_token

        allowed = Limits(horizon=self.horizon, seconds=self.seconds, queue=self.queue, body_bytes=self.body << 20,
                         held_bytes=4 * self.body << 20)
        token, new = read_token(self.token_file)
        agent = agent_at(self.run, self.checkpoint, self.trusted)
        recorder = None
        if not self.no_record and (Path(self.run) / "manifest.json").is_file():
            from steersman.agent import record_decisions

            recorder = record_decisions(agent, Run.open(self.run), world="served")
        desk = Desk(agent, limits(self.keep, agent), allowed)
        server = Server(desk, token, host=self.host, port=self.port)

        def ready() -> None:
            terminal.say(f"serving {self.run} on {server.address}")
            terminal.say(f"guardrails: {', '.join(x.name for x in desk.guardrails) or 'none (--keep sets them)'}")
            if agent.trusted is not None:
                terminal.say(f"plans look at most {agent.trusted} steps ahead: as far as was measured")
            if recorder is not None:
                terminal.say(f"every decision is recorded: steersman why {self.run}")
            if new:
                terminal.say(f"token, shown once: {token}")
            terminal.say(f"  curl {server.address}/signature -H 'Authorization: Bearer TOKEN'")
            if asked := example(desk):
                terminal.say(f"  curl {server.address}/act -H 'Authorization: Bearer TOKEN' "
                             f"-H 'Content-Type: application/json' -d {shlex.quote(asked)}")
            terminal.say("Ctrl-C ends it; requests in work are finished")

        try:
            server.run(ready)
        finally:
            if recorder is not None:
                recorder.close()
        return Done({"run": self.run, "address": server.address, "ended": "asked to"})


def example(desk: Desk) -> str:
    """A body for /act that the agent understands: zeros everywhere. Empty where something else than vectors is
    observed, or nobody acts."""
    agent, signature = desk.agent, desk.agent.signature
    if signature.action.kind == "none" or any(spec.kind != "vector" for spec in signature.observations.values()):
        return ""
    moment = {name: [0.0] * spec.shape[0] for name, spec in signature.observations.items()}
    goal = {"columns": {agent.readout.columns[0]: 0.0}} if agent.readout is not None else {"observation": moment}
    asked: dict[str, Any] = {"observation": moment, "goal": goal}
    if signature.exogenous:
        steps = min(desk.horizon() or 1, desk.limits.horizon)
        asked |= {"horizon": steps, "exogenous": {name: [0.0] * steps for name in signature.exogenous}}
    return json.dumps(asked, ensure_ascii=False)
