"""Do all planners plan bit for bit as before? For changes that are meant to change no plan.

    uv run python scripts/same_plans.py before.json                       in the tree before: keep what is planned
    uv run python scripts/same_plans.py after.json --before before.json   in the tree after: keep, and name what differs

Five world models x amounts or choices x exogenous inputs x guardrails x one cost term or three, five problems each:
every registered planner, small, decides three times and is handed back its warm start. What it planned, what it called
feasible and what it spent is kept as a hash; a refusal as its words. One thread, so that sums have one order.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

import steersman.actor  # noqa: F401  registers the planners
from steersman.core import ActionSpec, Guardrail, Latent, LatentGoal, ObservationSpec, Planner, Problem, Signature, Task
from steersman.core.errors import SteersmanError
from steersman.core.parts import registered
from steersman.cost import EffortCost, GoalCost, SmoothnessCost
from steersman.world_model import RecurrentModel, ResidualModel, TransformerModel

B, D, H, SEEN = 5, 6, 6, 3  # problems, state, horizon, moments of those models that have a history
ACTIONS = {
    "amounts": ActionSpec("continuous", (-1.0, -0.5), (1.0, 2.0)),
    "choices": ActionSpec("discrete", choices=5),
}
MODELS = ("residual", "ensemble", "linear", "recurrent", "transformer")
SMALL: dict[str, dict[str, Any]] = {
    "cem": {"samples": 24, "iterations": 3, "elites": 5},
    "icem": {"samples": 24, "iterations": 3, "elites": 5},
    "mppi": {"samples": 24, "iterations": 3},
    "gradient": {"restarts": 2, "steps": 6},
    "augmented-lagrangian": {"restarts": 2, "outer": 2, "inner": 4, "fan": 8},
    "newton": {"iterations": 2, "samples": 8},
    "search": {"nodes": 40, "directions": 6, "look": 6, "expand": 8},
    "mcts": {"simulations": 12},
    "barrier": {"fan": 32},
    "dynamic-programming": {"states": 32, "horizon": 4},
    "beam": {"width": 16},
    "backup": {"steps": 8, "commit": (1, 2), "lengths": (1, 2), "directions": 4, "bend": 2, "rounds": 3},
}


class Below(Guardrail):
    """One entry of the state stays below a bound."""

    def __init__(self, entry: int, bound: float) -> None:
        self.entry, self.bound = entry, bound

    @property
    def name(self) -> str:
        return f"entry {self.entry}"

    def margin(self, imagined: Any, actions: Any) -> Any:
        return imagined.states[:, :, 1:, self.entry] - self.bound


def world_model(kind: str, signature: Signature) -> Any:
    torch.manual_seed(3)
    if kind == "recurrent":
        model: Any = RecurrentModel(signature, (D,), 16)
    elif kind == "transformer":
        config = TransformerModel.Config(width=16, depth=2, heads=2, head_width=8, hidden=32, context=SEEN)
        model = TransformerModel(config, signature, (D,))
    else:
        model = ResidualModel(signature, (D,), 32, 2, 3 if kind == "ensemble" else 1, kind == "linear")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)  # untrained steps are tiny
    return model.eval()


def problems() -> Iterator[tuple[str, Problem]]:
    for kind, (name, spec), told, guarded in product(MODELS, ACTIONS.items(), (False, True), (False, True)):
        signature = Signature({"vector": ObservationSpec("vector", (D,))}, spec, exogenous=("e",) if told else ())
        model, g = world_model(kind, signature), torch.Generator().manual_seed(7)
        states = torch.randn(B, SEEN, D, generator=g)
        done = (torch.zeros(B, SEEN - 1, 1, dtype=torch.int64) if name == "choices"
                else torch.rand(B, SEEN - 1, 2, generator=g) - 0.5)
        known = torch.randn(B, SEEN - 1, 1, generator=g) if told else None
        if kind not in ("recurrent", "transformer"):
            states, done, known = states[:, -1:], done[:, :0], None if known is None else known[:, :0]
        with torch.no_grad():
            belief = model.begin(Latent(states), done, known)
        goal = LatentGoal(Latent(torch.randn(B, D, generator=g)))
        forecast = torch.randn(B, 2 * H, 1, generator=g) if told else None
        limits = (Below(0, 1.0), Below(3, 1.5)) if guarded else ()
        for weights in ({"goal": 1.0}, {"goal": 2.0, "effort": 0.1, "smoothness": 0.05}):
            case = f"{kind}, {name}{', told' * told}{', guarded' * guarded}, {len(weights)} terms"
            yield case, Problem(
                model, belief, (GoalCost(), EffortCost(spec), SmoothnessCost(spec)),
                Task(goal, weights, limits, horizon=H), spec, torch.arange(B) + 11,
                torch.zeros(B, dtype=torch.int64), forecast)


def planned(config: Any, problem: Problem) -> str:
    """Three decisions as a hash, or the words of a refusal."""
    planner = config.build()
    planner.prepare(Signature({"vector": ObservationSpec("vector", (D,))}, problem.action), None, (D,))
    digest = hashlib.sha256()
    try:
        with torch.inference_mode():
            for _ in range(3):
                plan = planner.plan(problem)
                for part in (plan.actions, plan.feasible, plan.calls):
                    digest.update(part.double().contiguous().numpy().tobytes())
                problem = replace(problem, warm=plan.warm, decision=problem.decision + 1)
    except SteersmanError as error:
        return f"refused: {error}"
    return digest.hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a JSON file to write")
    parser.add_argument("--before", type=Path, help="what another tree wrote")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    planners: list[Any] = list(registered(Planner))
    configs = {tag: config(**SMALL.get(tag, {}))
               for tag, config in ((str(each.__struct_config__.tag), each) for each in planners)}
    found = {f"{tag}: {case}": planned(config, problem)
             for case, problem in problems() for tag, config in configs.items()}
    arguments.out.write_text(json.dumps(found, indent=1))
    refused = sum(said.startswith("refused") for said in found.values())
    print(f"{len(found) - refused:,} planned, {refused:,} refused")
    if arguments.before is None:
        return 0
    before = json.loads(arguments.before.read_text())
    differ: dict[str, int] = defaultdict(int)
    for case in sorted(before.keys() | found.keys()):
        if before.get(case) != found.get(case):
            differ[case.split(":")[0]] += 1
    print("\n".join(f"{tag}: {count} differ" for tag, count in differ.items()) or "all the same")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
