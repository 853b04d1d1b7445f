"""The loops of a tree search, a problem at a time: which choice is tried next, growth, the way back, the plan.

Plain functions: numba compiles them, or Python runs them as they stand (`core.compiled.run`): the reference, and what
searches where numba is not installed. So they take arrays and indices: Python is given memoryviews, which have no
rows; in compiled code a row, or an array inside a tuple, would be counted (by lock) at more than the price of the
arithmetic. `rules.Rules` and `tree.Nodes` say what the arrays hold.

Shapes: B problems, M nodes of all problems, R choices, O outcomes, T steps to the horizon.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

VISITS, ENERGY, MEAN = range(3)
RAW, ARRIVED, ENTERED = range(3)
DEPTH, BEST, FOLLOW, CAME, KNOWN = range(5)
_INF = math.inf
_TINY, _LOW = 1e-8, -1e9


# Which choice --------------------------------------------------------------------------------------------------------


def puct(edges, closed, values, schedule, prior, node, p, t):
    """argmax q(a) + p(a) pull(N) / (1 + n(a)), q the mean return scaled to [0, 1] between the least and the greatest of
    the node's value and its children's; unvisited choices have 0. pull: see `rules.puct`."""
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
    best, most = 0, -_INF
    for r in range(choices):
        visits = edges[node, VISITS, r]
        score = prior[p, t, r] * pull / (visits + 1)
        if visits > 0:
            score += (high - edges[node, MEAN, r]) * scale
        if score > most and not closed[node, r]:
            best, most = r, score
    return best


def completed(edges, values, prior, node, p, t, score):
    """σ(q) = (50 + max n) · 0.1 · q into `score` (R,): q completed by the mixed value where a choice was not visited,
    scaled to [0, 1], 0 for the best and less for others: only differences matter. Returns the sum of visits."""
    choices, most, number, share, weighted = edges.shape[2], 0.0, 0.0, 0.0, 0.0
    for r in range(choices):
        visits = edges[node, VISITS, r]
        number += visits
        most = max(most, visits)
        if visits > 0:
            share += prior[p, t, r]
            weighted += prior[p, t, r] * edges[node, MEAN, r]
    mixed = (values[node, RAW] + number * (weighted / max(share, 1e-300))) / (number + 1)
    low, high = _INF, -_INF
    for r in range(choices):
        cost = edges[node, MEAN, r] if edges[node, VISITS, r] > 0 else mixed
        score[r] = cost
        low, high = min(low, cost), max(high, cost)
    scale = (5 + 0.1 * most) / max(high - low, _TINY)
    for r in range(choices):
        score[r] = (low - score[r]) * scale
    return number


def gumbel_inner(edges, closed, values, prior, node, p, t, score):
    """argmax π'(a) - n(a) / (1 + N), π' = softmax(logits + σ(q)): below the root."""
    number, total = completed(edges, values, prior, node, p, t, score), 0.0
    for r in range(edges.shape[2]):
        score[r] = 0.0 if closed[node, r] else prior[p, t, r] * math.exp(score[r])
        total += score[r]
    total, number = 1 / max(total, 1e-300), 1 / (1 + number)
    best, most = 0, -_INF
    for r in range(edges.shape[2]):
        value = score[r] * total - edges[node, VISITS, r] * number
        if value > most and not closed[node, r]:
            best, most = r, value
    return best


def gumbel_root(edges, closed, values, schedule, roots, prior, node, b, p, score, final):
    """The choice to try next at the root of problem b, or, if `final`, the one to take: the greatest draw + logit +
    σ(q) among those whose turn it is, or that were visited most."""
    number = int(completed(edges, values, prior, node, p, 0, score))
    choices, open_, wanted = edges.shape[2], 0, -1.0
    for r in range(choices):
        if not closed[node, r]:
            open_ += 1
            if final:
                wanted = max(wanted, edges[node, VISITS, r])
    if not final:
        wanted = schedule[min(open_, len(schedule) - 1), min(number, schedule.shape[1] - 1)]
    best, most, spare, spare_most = -1, -_INF, 0, -_INF
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


def most_visited(edges, closed, node):
    """The choice that was visited most, in a tie the better one."""
    most, best, least = -1.0, 0, _INF
    for r in range(edges.shape[2]):
        visits = edges[node, VISITS, r]
        mean = edges[node, MEAN, r] if visits > 0 else _INF
        if not closed[node, r] and (visits > most or (visits == most and mean < least)):
            most, best, least = visits, r, mean
    return best


def refresh(edges, shut, values, places, child, probability, gumbel, schedule, roots, prior, node, b, score):
    """What to try next at a node of problem b, and which node that leads to."""
    p, t = b % len(prior), min(places[node, DEPTH], prior.shape[1] - 1)
    if not gumbel:
        best = puct(edges, shut, values, schedule, prior, node, p, t)
    elif places[node, DEPTH] == 0:
        best = gumbel_root(edges, shut, values, schedule, roots, prior, node, b, p, score, False)
    else:
        best = gumbel_inner(edges, shut, values, prior, node, p, t, score)
    places[node, BEST] = best
    turn, most = 0, -_INF
    if child.shape[2] > 1 and child[node, best, 0] >= 0:  # which outcome: unknown, entered least for its probability
        for o in range(child.shape[2]):
            below = child[node, best, o]
            due = -1.0 if places[below, KNOWN] else probability[node, best, o] / (values[below, ENTERED] + 1)
            if due > most:
                turn, most = o, due
    below = child[node, best, turn]
    places[node, FOLLOW] = node if below < 0 else below


# A simulation --------------------------------------------------------------------------------------------------------


def walk(places, root, path, b):
    """Down to a node whose next choice was not tried yet; returns its depth. path (B, T + 1): nodes on the way."""
    node, depth = root, 0
    path[b, 0] = node
    while places[node, FOLLOW] != node:
        node = places[node, FOLLOW]
        depth += 1
        path[b, depth] = node
    return depth


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


def back_up(edges, values, places, path, b, depth, returned):
    """Tell the way back what a walk returned: the energy from its leaf on."""
    whole = 0.0
    for i in range(depth + 1):
        whole += values[path[b, i], ARRIVED]
    whole, passed = whole + returned, 0.0
    for i in range(depth + 1):
        node = path[b, i]
        passed += values[node, ARRIVED]
        values[node, ENTERED] += 1
        best = places[node, BEST]
        edges[node, VISITS, best] += 1
        edges[node, ENERGY, best] += whole - passed
        edges[node, MEAN, best] = edges[node, ENERGY, best] / edges[node, VISITS, best]


def blocked(closed, node):
    """Whether a node has no choice left."""
    open_ = 0
    for r in range(closed.shape[1]):
        open_ += not closed[node, r]
    return open_ == 0


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
        least = _INF
        for r in range(shut.shape[1]):
            if not closed[node, r]:
                least = min(least, edges[node, MEAN, r])
        values[node, RAW], places[node, KNOWN] = least, True
        edge = places[node, CAME]
        if edge < 0:
            return
        node, choice = edge // shut.shape[1], edge % shut.shape[1]


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


def decide(nodes, rules, node, b, score):
    """The choice to take at a node when the search is over; one that is known exactly if it is better: a mean over
    visits counts what was tried on the way as well."""
    edges, closed, shut = nodes.edges, nodes.closed, nodes.shut
    if nodes.places[node, DEPTH] > 0 or not rules.gumbel:
        choice = most_visited(edges, closed, node)
    else:
        choice = gumbel_root(edges, closed, nodes.values, rules.schedule, rules.roots, rules.prior, node, b,
                             b % len(rules.prior), score, True)
    least = edges[node, MEAN, choice] if edges[node, VISITS, choice] > 0 else _INF
    for r in range(shut.shape[1]):
        if shut[node, r] and not closed[node, r] and edges[node, MEAN, r] < least:
            choice, least = r, edges[node, MEAN, r]
    return choice


def main_line(nodes, rules, size, score, path, entered, share, visits, energy):
    """The choices that are taken: path (B, T), -1 where the tree ends; entered (B, T) nodes; share (B, T, R); visits
    and energy (B,) of the first choice, summed over visits. score (R,) is room to work in, here and below."""
    edges, child, probability = nodes.edges, nodes.child, nodes.probability
    choices, outcomes = child.shape[1], child.shape[2]
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


# For all problems at once --------------------------------------------------------------------------------------------


def begin(nodes, rules, size, score, problems):
    """What to try first at every root."""
    edges, _, shut, values, places, child, probability = nodes
    gumbel, schedule, roots, prior = rules
    for b in range(problems):
        refresh(edges, shut, values, places, child, probability, gumbel, schedule, roots, prior, b * size, b, score)


def walk_all(nodes, size, path, leaf, choice, depth, over):
    """Down every tree; `over` (B,): nothing is left to try."""
    for b in range(len(path)):
        depth[b] = walk(nodes.places, b * size, path, b)
        leaf[b] = path[b, depth[b]]
        choice[b] = nodes.places[leaf[b], BEST]
        over[b] = blocked(nodes.shut, b * size)


def tell_all(nodes, rules, horizon, score, path, depth, choice, slot, energy, to_come, listed, returned, refused, over):
    """What came of the choices (B,) that were tried: energy, to_come, `listed` probabilities (B, O); returned (B,)
    from the leaf on. The outcomes hang in columns `slot` (B,) …, or the choice is closed where it was refused."""
    edges, closed, shut, values, places, child, probability = nodes
    gumbel, schedule, roots, prior = rules
    for b in range(len(path)):
        if over[b]:
            continue
        leaf, tried = path[b, depth[b]], choice[b]
        if refused[b]:
            close(edges, closed, shut, values, places, child, probability, leaf, tried)
        else:
            for o in range(energy.shape[1]):
                grow(values, places, child, prior, horizon, leaf, tried, o, slot[b] + o, b, energy[b, o], to_come[b, o])
                if len(probability):
                    probability[leaf, tried, o] = listed[b, o]
            back_up(edges, values, places, path, b, depth[b], returned[b])
            settle(edges, closed, shut, values, places, child, probability, leaf, tried)
        for i in range(depth[b] + 1):
            refresh(edges, shut, values, places, child, probability, gumbel, schedule, roots, prior, path[b, i], b,
                    score)
