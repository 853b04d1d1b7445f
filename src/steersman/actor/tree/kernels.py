"""The tree of a tree search, compiled: one problem's walk, growth and way back, as plain loops. Imported only where
numba is installed; `arrays` and `rules` say the same with arrays, and are what this is tested against.

Inner functions get arrays, not tuples of them or views: each would be counted (by lock) for as long as it lives, at
more than the price of the arithmetic. Shapes: B problems, M nodes of all problems, R choices, O outcomes, T steps.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from steersman.core.compiled import kernel

VISITS, ENERGY, MEAN = range(3)
RAW, ARRIVED, ENTERED = range(3)
DEPTH, BEST, FOLLOW, CAME, KNOWN = range(5)
_TINY, _LOW = 1e-8, -1e9


class Nodes(NamedTuple):
    """edges (M, 3, R): visits of each choice, energy summed over them, its mean; closed (M, R) bool: not allowed; shut
    (M, R) bool: closed, or leads to known nodes only; values (M, 3): thought to come of a new node, exact for a known
    one, energy of the step that led here, times entered; places (M, 5): depth, best choice to try next, node that it
    leads to (itself: none yet), edge node · R + choice that led here, whether it is known; child, probability
    (M, R, O)."""

    edges: Any
    closed: Any
    shut: Any
    values: Any
    places: Any
    child: Any
    probability: Any


class Rules(NamedTuple):
    """gumbel: which rule; schedule: for Gumbel the visits of a choice in turn, by open choices and simulations, for
    PUCT a row of its factor by visits; roots (B, 2, R): Gumbel's draws, logits of the prior; prior (B, T, R), or
    (1, 1, R) where it is the same everywhere."""

    gumbel: bool
    schedule: Any
    roots: Any
    prior: Any


# Which choice --------------------------------------------------------------------------------------------------------


@kernel()
def puct(edges, closed, values, schedule, prior, node, p, t):
    choices, number, value = edges.shape[2], 1.0, values[node, RAW]
    for r in range(choices):
        number += edges[node, VISITS, r]
        value += edges[node, ENERGY, r]
    value /= number
    low = high = value
    for r in range(choices):
        if edges[node, VISITS, r] > 0:
            low, high = min(low, edges[node, MEAN, r]), max(high, edges[node, MEAN, r])
    scale, pull = 1 / max(high - low, _TINY), schedule[0, int(number)]
    best, most = 0, -np.inf
    for r in range(choices):
        score = prior[p, t, r] * pull / (edges[node, VISITS, r] + 1)
        if edges[node, VISITS, r] > 0:
            score += (high - edges[node, MEAN, r]) * scale
        if score > most and not closed[node, r]:
            best, most = r, score
    return best


@kernel()
def completed(edges, values, prior, node, p, t, score):
    """σ(q) into `score` (R,): see `Gumbel`. Returns the sum of visits."""
    choices, most, number, share, weighted = edges.shape[2], 0.0, 0.0, 0.0, 0.0
    for r in range(choices):
        visits = edges[node, VISITS, r]
        number += visits
        most = max(most, visits)
        if visits > 0:
            share += prior[p, t, r]
            weighted += prior[p, t, r] * edges[node, MEAN, r]
    mixed = (values[node, RAW] + number * (weighted / max(share, 1e-300))) / (number + 1)
    low, high = np.inf, -np.inf
    for r in range(choices):
        score[r] = edges[node, MEAN, r] if edges[node, VISITS, r] > 0 else mixed
        low, high = min(low, score[r]), max(high, score[r])
    scale = (5 + 0.1 * most) / max(high - low, _TINY)
    for r in range(choices):
        score[r] = (low - score[r]) * scale
    return number


@kernel()
def gumbel_inner(edges, closed, values, prior, node, p, t, score):
    number, total = completed(edges, values, prior, node, p, t, score), 0.0
    for r in range(edges.shape[2]):
        score[r] = 0.0 if closed[node, r] else prior[p, t, r] * math.exp(score[r])
        total += score[r]
    total, number = 1 / max(total, 1e-300), 1 / (1 + number)
    best, most = 0, -np.inf
    for r in range(edges.shape[2]):
        value = score[r] * total - edges[node, VISITS, r] * number
        if value > most and not closed[node, r]:
            best, most = r, value
    return best


@kernel()
def gumbel_root(edges, closed, values, schedule, roots, prior, node, b, p, score, final):
    """The choice to try next at the root of problem b, or, if `final`, the one to take."""
    number = int(completed(edges, values, prior, node, p, 0, score))
    choices, open_, wanted = edges.shape[2], 0, -1.0
    for r in range(choices):
        if not closed[node, r]:
            open_ += 1
            if final:
                wanted = max(wanted, edges[node, VISITS, r])
    if not final:
        wanted = schedule[min(open_, len(schedule) - 1), min(number, schedule.shape[1] - 1)]
    best, most, spare, spare_most = -1, -np.inf, 0, -np.inf
    for r in range(choices):
        visits = edges[node, VISITS, r]
        value = max(_LOW, (roots[b, 0, r] if visits == 0 else 0.0) + roots[b, 1, r] + score[r])
        if closed[node, r]:
            continue
        if visits == wanted and value > most:
            best, most = r, value
        if value > spare_most:
            spare, spare_most = r, value
    return spare if best < 0 else best  # the choices whose turn it was were closed meanwhile


@kernel()
def most_visited(edges, closed, node):
    most, best, least = -1.0, 0, np.inf
    for r in range(edges.shape[2]):
        visits = edges[node, VISITS, r]
        mean = edges[node, MEAN, r] if visits > 0 else np.inf
        if not closed[node, r] and (visits > most or (visits == most and mean < least)):
            most, best, least = visits, r, mean
    return best


@kernel()
def refresh(
    edges, shut, values, places, child, probability, gumbel, schedule, roots, prior, node, b, score
):
    """What to try next at a node of problem b, and which node that leads to."""
    p, t = b % len(prior), min(places[node, DEPTH], prior.shape[1] - 1)
    if not gumbel:
        best = puct(edges, shut, values, schedule, prior, node, p, t)
    elif places[node, DEPTH] == 0:
        best = gumbel_root(edges, shut, values, schedule, roots, prior, node, b, p, score, False)
    else:
        best = gumbel_inner(edges, shut, values, prior, node, p, t, score)
    places[node, BEST] = best
    turn, most = 0, -np.inf
    if child.shape[2] > 1 and child[node, best, 0] >= 0:  # which outcome: unknown, entered least for its probability
        for o in range(child.shape[2]):
            below = child[node, best, o]
            due = -1.0 if places[below, KNOWN] else probability[node, best, o] / (values[below, ENTERED] + 1)
            if due > most:
                turn, most = o, due
    below = child[node, best, turn]
    places[node, FOLLOW] = node if below < 0 else below


# A simulation --------------------------------------------------------------------------------------------------------


@kernel()
def walk(places, root, path):
    """Down to a node whose next choice was not tried yet; returns its depth. path (T + 1,): nodes on the way."""
    node, depth = root, 0
    path[0] = node
    while places[node, FOLLOW] != node:
        node = places[node, FOLLOW]
        depth += 1
        path[depth] = node
    return depth


@kernel()
def grow(values, places, child, prior, horizon, leaf, choice, outcome, slot, b, energy, to_come):
    """Hang an outcome under a leaf of problem b, in the column `slot`."""
    depth = places[leaf, DEPTH] + 1
    values[slot, ARRIVED], values[slot, RAW] = energy, to_come
    places[slot, DEPTH], places[slot, CAME] = depth, leaf * child.shape[1] + choice
    places[slot, KNOWN] = depth >= horizon
    child[leaf, choice, outcome] = slot
    p, t, best = b % len(prior), min(depth, prior.shape[1] - 1), 0
    for r in range(1, prior.shape[2]):
        if prior[p, t, r] > prior[p, t, best]:
            best = r
    places[slot, BEST] = best


@kernel()
def back_up(edges, values, places, path, depth, returned):
    """Tell the way back what a walk returned: the energy from its leaf on."""
    whole = 0.0
    for i in range(depth + 1):
        whole += values[path[i], ARRIVED]
    whole, passed = whole + returned, 0.0
    for i in range(depth + 1):
        node = path[i]
        passed += values[node, ARRIVED]
        values[node, ENTERED] += 1
        best = places[node, BEST]
        edges[node, VISITS, best] += 1
        edges[node, ENERGY, best] += whole - passed
        edges[node, MEAN, best] = edges[node, ENERGY, best] / edges[node, VISITS, best]


@kernel()
def blocked(closed, node):
    """Whether a node has no choice left."""
    open_ = 0
    for r in range(closed.shape[1]):
        open_ += not closed[node, r]
    return open_ == 0


@kernel()
def settle(edges, closed, shut, values, places, child, probability, node, choice):
    """A choice that was just tried (-1: one that was just closed): is it known exactly by now, and the ways up?"""
    while True:
        if choice >= 0:
            whole = 0.0
            for o in range(child.shape[2]):
                below, p = child[node, choice, o], 1.0 if len(probability) == 0 else probability[node, choice, o]
                if p > 0:
                    if not places[below, KNOWN]:
                        return
                    whole += (values[below, ARRIVED] + values[below, RAW]) * p
            edges[node, ENERGY, choice] = whole * edges[node, VISITS, choice]
            edges[node, MEAN, choice] = edges[node, ENERGY, choice] / edges[node, VISITS, choice]
            shut[node, choice] = True
        if not blocked(shut, node):
            return
        least = np.inf
        for r in range(shut.shape[1]):
            if not closed[node, r]:
                least = min(least, edges[node, MEAN, r])
        values[node, RAW], places[node, KNOWN] = least, True
        edge = places[node, CAME]
        if edge < 0:
            return
        node, choice = edge // shut.shape[1], edge % shut.shape[1]


@kernel()
def close(edges, closed, shut, values, places, child, probability, leaf, choice):
    """Close a choice, and every way to a node that has no open choice left."""
    closed[leaf, choice] = shut[leaf, choice] = True
    while blocked(closed, leaf):
        edge = places[leaf, CAME]
        if edge < 0:
            return
        leaf, choice = edge // closed.shape[1], edge % closed.shape[1]
        closed[leaf, choice] = shut[leaf, choice] = True
    settle(edges, closed, shut, values, places, child, probability, leaf, -1)


# The plan ------------------------------------------------------------------------------------------------------------


@kernel()
def decide(nodes, rules, node, b, score):
    """The choice to take at a node when the search is over; one that is known exactly if it is better."""
    edges, closed, shut = nodes.edges, nodes.closed, nodes.shut
    if nodes.places[node, DEPTH] > 0 or not rules.gumbel:
        choice = most_visited(edges, closed, node)
    else:
        choice = gumbel_root(edges, closed, nodes.values, rules.schedule, rules.roots, rules.prior, node, b,
                             b % len(rules.prior), score, True)
    least = edges[node, MEAN, choice] if edges[node, VISITS, choice] > 0 else np.inf
    for r in range(shut.shape[1]):
        if shut[node, r] and not closed[node, r] and edges[node, MEAN, r] < least:
            choice, least = r, edges[node, MEAN, r]
    return choice


@kernel()
def main_line(nodes, rules, size, path, entered, share, visits, energy):
    """The choices that are taken: path (B, T), -1 where the tree ends; entered (B, T) nodes; share (B, T, R); visits
    and energy (B,) of the first choice, summed over visits."""
    edges, child, probability = nodes.edges, nodes.child, nodes.probability
    choices, outcomes = child.shape[1], child.shape[2]
    score = np.empty(choices)
    for b in range(len(path)):
        node = b * size
        choice = decide(nodes, rules, node, b, score)
        visits[b], energy[b] = edges[node, VISITS, choice], edges[node, ENERGY, choice]
        for t in range(path.shape[1]):
            choice, total = decide(nodes, rules, node, b, score), 0.0
            if child[node, choice, 0] < 0:
                break
            for r in range(choices):
                total += edges[node, VISITS, r]
            for r in range(choices if total > 0 else 0):
                share[b, t, r] = edges[node, VISITS, r] / total
            likely = 0
            for o in range(1, outcomes):
                if probability[node, choice, o] > probability[node, choice, likely]:
                    likely = o
            node = child[node, choice, likely]
            path[b, t], entered[b, t] = choice, node


# For all problems at once, where the model is no compiled one --------------------------------------------------------


@kernel()
def refresh_way(nodes, rules, path, depth):
    """What to try next at every node on the ways path (B, T + 1) down to depth (B,)."""
    edges, _, shut, values, places, child, probability = nodes
    gumbel, schedule, roots, prior = rules
    score = np.empty(edges.shape[2])
    for b in range(len(path)):
        for i in range(depth[b] + 1):
            refresh(edges, shut, values, places, child, probability, gumbel, schedule, roots, prior, path[b, i], b,
                    score)


@kernel()
def walk_all(nodes, size, path, leaf, choice, depth, over):
    for b in range(len(path)):
        depth[b] = walk(nodes.places, b * size, path[b])
        leaf[b] = path[b, depth[b]]
        choice[b] = nodes.places[leaf[b], BEST]
        over[b] = blocked(nodes.shut, b * size)


@kernel()
def grow_all(nodes, rules, size, horizon, leaf, choice, filled, energy, to_come, probability, counts):
    for b in range(len(leaf)):
        for o in range(energy.shape[1] if counts[b] else 0):
            grow(nodes.values, nodes.places, nodes.child, rules.prior, horizon, leaf[b], choice[b], o,
                 b * size + filled + o, b, energy[b, o], to_come[b, o])
            if probability.shape[1]:
                nodes.probability[leaf[b], choice[b], o] = probability[b, o]


@kernel()
def back_up_all(nodes, path, depth, choice, returned, counts):
    edges, closed, shut, values, places, child, probability = nodes
    for b in range(len(path)):
        if counts[b]:
            back_up(edges, values, places, path[b], depth[b], returned[b])
            settle(edges, closed, shut, values, places, child, probability, path[b, depth[b]], choice[b])


@kernel()
def close_all(nodes, leaf, choice, refused):
    for b in range(len(leaf)):
        if refused[b]:
            close(nodes.edges, nodes.closed, nodes.shut, nodes.values, nodes.places, nodes.child, nodes.probability,
                  leaf[b], choice[b])
