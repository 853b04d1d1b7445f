"""A whole tree search in one compiled call, for a world model that is a perceptron and an energy that is a distance.

Imported only where numba is installed. Shapes: B problems, N nodes each, R choices, T choices of a plan, each held for
H steps, D state, F width of the first layer, W width, L layers.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from steersman.actor.tree import kernels
from steersman.actor.tree.kernels import BEST, back_up, blocked, close, grow, refresh, settle, walk
from steersman.core.compiled import compilable, kernel
from steersman.nn.perceptron_kernels import step

compilable(kernels)


class Net(NamedTuple):
    """As in `core.Perceptron`: into (F, D), drive (R, F), layers (L, W, W), offsets (L, W), out (D, W), bias (D,)."""

    into: Any
    drive: Any
    layers: Any
    offsets: Any
    out: Any
    bias: Any


class Aim(NamedTuple):
    """Energy of a step: weight · mean |s - target|^power; target (1, D) or (B, D); last: only of the plan's last."""

    target: Any
    weight: Any
    squared: bool
    last: bool


@kernel()
def distance(target, weight, squared, b, state):
    total, row = np.float32(0), b % len(target)
    for i in range(len(state)):
        error = state[i] - target[row, i]
        total += error * error if squared else abs(error)
    return weight * (total / np.float32(len(state)))


@kernel()
def simulate(nodes, rules, size, net, aim, states, horizon, hold, begin, end, kept, done):
    """Simulations number `begin` to `end` (excluded) of every problem that is not over; states (B, N, D); kept (B,)
    counts those whose energy was finite, done (B,) all."""
    edges, closed, shut, values, places, child, probability = nodes
    gumbel, schedule, roots, prior = rules
    into, drive, layers, offsets, out, bias = net
    target, weight, squared, last = aim
    score, path = np.empty(edges.shape[2]), np.empty((len(states), horizon + 1), np.int64)
    first, hidden = np.empty(len(into), np.float32), np.empty(out.shape[1], np.float32)
    for b in range(len(states)):
        root = b * size
        for number in range(begin, end):
            if blocked(shut, root):
                break
            depth = walk(places, root, path, b)
            leaf = path[b, depth]
            choice, here, after = places[leaf, BEST], states[b, leaf - root], states[b, 1 + number]
            energy = np.float32(0)
            for time in range(hold):
                step(into, drive, layers, offsets, out, bias, here, choice, after, first, hidden)
                here = after
                if not last or (depth == horizon - 1 and time == hold - 1):
                    energy += distance(target, weight, squared, b, after)
            done[b] += 1
            if np.isfinite(energy):
                kept[b] += 1
                to_come = energy * np.float32(horizon - 1 - depth)
                grow(values, places, child, prior, horizon, leaf, choice, 0, root + 1 + number, b, energy, to_come)
                back_up(edges, values, places, path, b, depth, float(energy) + float(to_come))
                settle(edges, closed, shut, values, places, child, probability, leaf, choice)
            else:
                close(edges, closed, shut, values, places, child, probability, leaf, choice)
            for i in range(depth + 1):
                refresh(edges, shut, values, places, child, probability, gumbel, schedule, roots, prior, path[b, i], b,
                        score)


@kernel()
def finish(net, aim, states, size, hold, spare, path, node, imagined, energy, looked):
    """The whole plan: path (B, T) of choices, node (B, T) that each leads to; where it is -1 it becomes the choice of
    least energy in a single step, or `spare` where none is finite; imagined (B, T·H + 1, D), energy (B, T·H) of it;
    looked (B,): choices looked at."""
    into, drive, layers, offsets, out, bias = net
    target, weight, squared, last = aim
    first, hidden = np.empty(len(into), np.float32), np.empty(out.shape[1], np.float32)
    tried, horizon = np.empty((2, states.shape[2]), np.float32), path.shape[1]
    for b in range(len(path)):
        imagined[b, 0] = states[b, 0]
        for t in range(horizon):
            there = hold == 1  # whether the state after a single step is known already
            if path[b, t] >= 0:
                if there:
                    imagined[b, t + 1] = states[b, node[b, t] - b * size]
            else:
                best, least = spare, np.float32(np.inf)
                for r in range(len(drive)):
                    here, spent = imagined[b, t * hold], np.float32(0)
                    for time in range(hold):
                        step(into, drive, layers, offsets, out, bias, here, r, tried[time % 2], first, hidden)
                        here = tried[time % 2]
                        if not last or (t == horizon - 1 and time == hold - 1):
                            spent += distance(target, weight, squared, b, here)
                    if spent < least:
                        best, least = r, spent
                        if there:
                            imagined[b, t + 1] = here
                path[b, t], there = best, there and np.isfinite(least)
                looked[b] += len(drive)
            for at in range(t * hold, (t + 1) * hold):
                if not there:
                    step(into, drive, layers, offsets, out, bias, imagined[b, at], path[b, t], imagined[b, at + 1],
                         first, hidden)
                counts = not last or at == horizon * hold - 1
                energy[b, at] = distance(target, weight, squared, b, imagined[b, at + 1]) if counts else np.float32(0)
