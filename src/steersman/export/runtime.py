"""Planning on ONNX files: perception, world model and read-out over ONNX Runtime, behind core's abstract classes.

The planners, costs and guardrails are the ordinary ones, and so is the agent. Shapes as in `export.graphs`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from steersman.agent import Agent, FurtherBoxes
from steersman.agent.building.blueprint import require_plannable
from steersman.core import (
    Belief,
    CheckpointError,
    ConfigError,
    Critic,
    Imagined,
    Latent,
    MismatchError,
    Observation,
    PartError,
    Perception,
    Planner,
    PlanningError,
    Readout,
    RunError,
    Task,
    WorldModel,
    every_moment,
)
from steersman.core.parts import convert
from steersman.export.graphs import Carry
from steersman.export.manifest import FORMAT, OnnxManifest
from steersman.export.onnx import MANIFEST, open_session, require_onnx, run_session
from steersman.runs.files import parse_json, read_capped, sha256

_LIMIT = 2 << 30
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")
_FIX = "export the agent again"


class OnnxPerception(Perception):
    """`encode.onnx`, and `survey.onnx` where the agent draws a scene map."""

    def __init__(
        self, encode: Any, survey: Any | None, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
    ) -> None:
        super().__init__()
        self._encode, self._survey = encode, survey
        self._latent_shape, self._context_shape = latent_shape, context_shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self._latent_shape

    @property
    def context_shape(self) -> tuple[int, int, int] | None:
        return self._context_shape

    def encode(self, observation: Observation, task: Task | None = None) -> Latent:
        return Latent(self._run(self._encode, observation))

    def survey(self, observation: Observation) -> Tensor | None:
        return None if self._survey is None else self._run(self._survey, observation)

    def _run(self, session: Any, observation: Observation) -> Tensor:
        wanted = [port.name for port in session.get_inputs()]
        missing = sorted(set(wanted) - set(observation))
        if missing:
            raise MismatchError(f"observations {', '.join(wanted)}", f"{', '.join(observation) or 'nothing'}",
                                f"add {', '.join(missing)}")
        leading = observation[wanted[0]].shape[:2]
        flat = {name: observation[name].flatten(0, 1) for name in wanted}
        (found,) = run_session(session, flat)
        return found.unflatten(0, leading)


class OnnxWorldModel(WorldModel):
    """`step.onnx` in a loop: over the history in `begin`, over the horizon in `imagine`.

    What the step hands on (a recurrent memory, keys and values) is the belief's carry, one tensor (B, …) each.
    `correct.onnx`, where there is one, weighs what was foreseen and what was measured.
    """

    def __init__(self, step: Any, carry: tuple[Carry, ...] = (), correct: Any | None = None) -> None:
        super().__init__()
        self._step, self._carry, self._correct = step, carry, correct
        self._inputs = {port.name for port in step.get_inputs()}
        self._outputs = [port.name for port in step.get_outputs()]

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        if self._carry and actions.shape[1]:
            return self.filter(latent, actions, exogenous).belief
        context = None if latent.context is None else latent.context[:, -1]
        return Belief(latent.state[:, -1], context, tuple(part.empty(len(latent.state)) for part in self._carry))

    def beliefs(
        self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None, reset: Tensor | None = None
    ) -> Belief | None:
        return None if self._carry or self._correct is not None else every_moment(latent)

    def correct(self, foreseen: Belief, latent: Latent, measured: Tensor | None) -> Belief:
        if self._correct is None:
            return super().correct(foreseen, latent, measured)
        if measured is None:
            measured = torch.ones_like(latent.state, dtype=torch.bool)
        inputs = {"state": foreseen.state, "moment": latent.state, "measured": measured.expand_as(latent.state)}
        inputs |= {part.name: x for part, x in zip(self._carry, foreseen.carry, strict=True)}
        state, *carry = run_session(self._correct, inputs)
        return Belief(state, foreseen.context if latent.context is None else latent.context, tuple(carry))

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        k = actions.shape[1]
        state = belief.state[:, None].expand(-1, k, *belief.state.shape[1:])
        carry = tuple(x[:, None].expand(-1, k, *x.shape[1:]) for x in belief.carry)
        return self._roll(state, belief.context, carry, actions, exogenous)

    def branch(
        self, belief: Belief, states: Tensor, actions: Tensor, exogenous: Tensor | None = None,
        u: Tensor | None = None, carry: tuple[Tensor, ...] = (),
    ) -> Imagined:
        return self._roll(states, belief.context, carry, actions, exogenous)

    def _roll(
        self, state: Tensor, context: Tensor | None, carry: tuple[Tensor, ...], actions: Tensor,
        exogenous: Tensor | None,
    ) -> Imagined:
        states, spread = [state], []
        for t in range(actions.shape[2]):
            known = None if exogenous is None else exogenous[:, t]
            state, disagreement, carry = self._advance(state, actions[:, :, t], known, context, carry)
            states.append(state)
            spread += [disagreement] if disagreement is not None else []
        return Imagined(torch.stack(states, 2), context, torch.stack(spread, 2) if spread else None, carry=carry)

    def _advance(
        self, state: Tensor, action: Tensor, exogenous: Tensor | None, context: Tensor | None,
        carry: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """(B, K, …) -> next state, disagreement (B, K), carry."""
        inputs = {"state": state, "action": action}
        inputs |= {"exogenous": exogenous} if exogenous is not None else {}
        inputs |= {"context": context} if context is not None else {}
        inputs |= {part.name: x for part, x in zip(self._carry, carry, strict=True)}
        missing = self._inputs - set(inputs)
        if missing:
            raise PlanningError(f"inputs {', '.join(sorted(self._inputs))} of the exported world model",
                                f"none for {', '.join(sorted(missing))}", "give the exogenous forecast")
        found = dict(zip(self._outputs, run_session(self._step, inputs), strict=True))
        return found["next"], found.get("disagreement"), tuple(found[f"{part.name}_next"] for part in self._carry)


class OnnxCritic(Critic):
    """`critic.onnx`."""

    def __init__(self, session: Any, rank: int) -> None:
        super().__init__()
        self._session, self._rank = session, rank

    def value(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        leading = states.shape[: states.dim() - self._rank]
        inputs = {"state": states.reshape(-1, *states.shape[states.dim() - self._rank :])}
        if context is not None:  # one map of a problem for all of its states
            each = len(inputs["state"]) // len(context)
            inputs["context"] = context.repeat_interleave(each, 0)
        (found,) = run_session(self._session, inputs)
        return found.view(leading)


class OnnxReadout(Readout):
    """`readout.onnx`."""

    def __init__(self, session: Any, columns: tuple[str, ...], scale: dict[str, float], rank: int) -> None:
        super().__init__()
        self._session, self._columns, self._scale, self._rank = session, columns, scale, rank

    @property
    def columns(self) -> tuple[str, ...]:
        return self._columns

    @property
    def scale(self) -> dict[str, float]:
        return self._scale

    def read(self, states: Tensor, context: Tensor | None = None) -> Tensor:
        leading = states.shape[: states.dim() - self._rank]
        flat = states.reshape(-1, *states.shape[states.dim() - self._rank :])
        (found,) = run_session(self._session, {"state": flat})
        return found.view(*leading, -1)


def load_onnx(folder: Path | str, planner: Planner | None = None, trusted: bool = False) -> Agent:
    """An ordinary agent whose perception, world model, read-out and critic are the ONNX files in `folder`; what the
    export left out, and policies, it is without.

    Hashes are checked before ONNX Runtime sees a file. The files are data, but ONNX Runtime is a large native parser:
    take folders from people you would take a model from.

    trusted  plan no farther than the horizon that was measured before the folder was written

    Raises:
        RunError, CheckpointError: missing, damaged, foreign or of a later format.
        UsageError: the extra `onnx` is not installed, or no horizon travels with the folder.
    """
    require_onnx()
    folder = Path(folder)
    manifest = read_manifest(folder)
    require_plannable(manifest.agent.planner, str(folder))
    sessions = {name: open_session(_content(folder, name, manifest)) for name in manifest.graphs
                if not name.startswith("policy")}
    if not {"encode", "step"} <= set(sessions):
        raise CheckpointError(f"encode.onnx and step.onnx in {folder}", ", ".join(sessions) or "none", _FIX)
    if any(min(x.shape, default=0) < 0 for x in manifest.carry):
        raise CheckpointError(f"a history of fixed size in {folder}", "one that grows, of an earlier version", _FIX)
    *rows, columns, width = manifest.context_shape or (0, 0)
    mapped = None if manifest.context_shape is None else (rows[0] if rows else 1, columns, width)
    perception = OnnxPerception(sessions["encode"], sessions.get("survey"), manifest.latent_shape, mapped)
    model = OnnxWorldModel(sessions["step"], tuple(Carry(x.name, x.shape, x.type) for x in manifest.carry),
                           sessions.get("correct"))
    readout = None
    if "readout" in sessions:
        readout = OnnxReadout(sessions["readout"], manifest.columns, manifest.scale, len(manifest.latent_shape))
    critic = OnnxCritic(sessions["critic"], len(manifest.latent_shape)) if "critic" in sessions else None
    config = msgspec.structs.replace(
        manifest.agent, memory=None, configurator=None, corrector=None, policies={},
        critic=None if critic is None else manifest.agent.critic)
    return Agent(
        config, manifest.signature, perception, model, planner=planner, readout=readout, origin=manifest.origin,
        trusted=manifest.origin.trusted_horizon(str(folder)) if trusted else None, further=FurtherBoxes(critic),
    )


def read_manifest(folder: Path) -> OnnxManifest:
    """`export.json` of a folder.

    Raises:
        RunError, CheckpointError: see `load_onnx`.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RunError(f"a folder of an export at {folder}", "no such folder", "check the path")
    try:
        manifest = convert(plain := parse_json(read_capped(path)), OnnxManifest, origins=plain.get("parts"))
    except PartError:
        raise
    except (OSError, AttributeError, RunError, ConfigError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"{MANIFEST} of an ONNX export in {folder}", f"{error}", _FIX) from error
    if manifest.format > FORMAT:
        raise CheckpointError(f"an export of format {FORMAT} or earlier", f"{manifest.format}", "update steersman")
    return manifest


def _content(folder: Path, name: str, manifest: OnnxManifest) -> bytes:
    path, record = folder / f"{name}.onnx", manifest.graphs[name].file
    if not _PLAIN.fullmatch(name):
        raise CheckpointError(f"graphs with plain names in {folder}", repr(name), _FIX)
    try:
        content = read_capped(path, min(record.bytes, _LIMIT))
    except (OSError, RunError) as error:
        raise CheckpointError(f"a graph at {path}", f"{error}", _FIX) from error
    if sha256(content) != record.sha256:
        raise CheckpointError(f"SHA-256 {record.sha256[:12]}… of {path}", f"{sha256(content)[:12]}…", _FIX)
    return content
