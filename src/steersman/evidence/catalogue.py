"""Which experiments there are: read without torch; an experiment's module is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib

from steersman.core.errors import UsageError
from steersman.evidence.cell import Experiment

EXPERIMENTS: dict[str, tuple[str, str]] = {
    "two-rooms": (".two_rooms", "goals in the other room from pixels, on trained, held-out and three-room layouts"),
    "pendulum": (".pendulum", "swing-up from a reward-free log of another tool, three training seeds"),
    "trust": (".trust", "bounds, true-action rank and horizon from a log, held against episodes recorded afterwards"),
    "doctor": (".doctor", "faults planted into logs of nine worlds: each found, none invented where there is none"),
    "formats": (".formats", "every file format: exact round trips, and 2,000 damaged files each that end in one line"),
    "collapse": (".collapse", "what each part of the objective prevents: the same run with it cut"),
    "replay": (".replay", "recorded decisions of every planner, made again bit for bit by another process"),
    "guardrails": (".guardrails", "hazards with a learned model: 1,000 episodes and 10,000 traps, guarded and not"),
    "planners": (".planners", "every planner against exact answers, and on 100,000 random cases"),
    "serving": (".serving", "what a server refuses, and what hung clients cost a good one"),
    "demonstrations": (".demonstrations", "weights of five cost terms read off an expert's ways, five experts a run"),
    "levels": (".levels", "how often everything in an agent changes, declared beside measured"),
    "latent-variable": (".latent_variable", "z in three forms from collapse to blur: modes covered, best of 16, ranks"),
    "corridor": (".corridor", "mean, worst case and CVaR over a learned z: the right way, and limits kept in 1 - δ"),
    "kinds": (".kinds", "pictures, films, sounds, fields, text, columns: written, read, learned, resumed"),
    "pixels": (".pixels", "the recipe for cameras in many worlds, beside its pixel twin and an untrained encoder"),
    "pixel-switches": (".pixel_switches", "what each switch of the recipe for cameras is worth, at equal seconds"),
    "pixel-shift": (".pixel_shift", "what is kept under other colours, sizes, noise and the like, and what cures it"),
    "pixel-guardrails": (".pixel_guardrails", "hazards seen by a camera alone: a guardrail on what it sees"),
    "data-curve": (".data_curve", "the score of the recipe for cameras against the length of its log"),
    "pixel-peers": (".pixel_peers", "world models of other packages, and methods without one, on the same logs"),
    "hierarchy": (".hierarchy", "nine rooms and a car: goals beyond a flat horizon, by levels and without"),
    "abstraction": (".abstraction", "films without actions: how far each level of abstraction foresees what is true"),
    "reach": (".reach", "goals that can be reached are; of others it is said why, in one of six ways"),
    "levels-guarded": (".levels_guarded", "a disk in each of nine rooms: guardrails at the upper level, lower, both"),
    "unknown-regions": (".unknown_regions", "who enters a region never logged, and a noisy one that is well known"),
    "explore": (".explore", "guarded curiosity beside exploration by chance: error, success, violations, forecasts"),
    "configurator": (".configurator", "the same frame, two tasks: what a task's token lets the latent hold"),
    "critic": (".critic", "three steps with a critic of intrinsic cost, three without, fifteen without"),
    "distil": (".distil", "policies distilled from plans, beside the plans: success kept, times faster"),
    "deliberation": (".deliberation", "success against predictor calls: fixed budgets and a gate; guardrails at each"),
    "control": (".control", "beside PETS, TD-MPC2, SAC, HIQL and QRL at equal steps and at equal predictor calls"),
    "change": (".change", "8 to 64 pucks of which few move: changes to few slots beside the whole state"),
    "ego": (".ego", "own state by a deterministic model and the world by one with z, beside one joint model"),
    "memory": (".memory", "triplets of what states cost: 100 kills, damage, search among a million, growth"),
    "correction": (".correction", "a world changes under the agent: surprised, corrected, and back again"),
    "data-modes": (".data_modes", "five ways in which data arrive, on one playground: what each and all of them teach"),
    "days": (".days", "acting for days: memory, what a kill costs, and going on where it stopped"),
    "reactor": (".reactor", "a plant under a limit, learned from its log, beside do-mpc's NMPC and a tuned PID"),
}
"""Name -> (module, one line about it)."""


def experiment(name: str) -> Experiment:
    """The experiment `name`: the cells and the summary of its module.

    Raises:
        UsageError: no experiment has this name.
    """
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, 1)
        fix = f"did you mean {near[0]!r}?" if near else "`steersman evidence` lists them"
        raise UsageError(f"an experiment of {', '.join(EXPERIMENTS)}", repr(name), fix)
    module = importlib.import_module(EXPERIMENTS[name][0], __package__)
    return Experiment(name, module.cells, module.summary)
