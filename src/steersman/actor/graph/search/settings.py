"""The numbers that growing, valuing and acting go by; `Search.Config` is these and how to build the planner."""

from __future__ import annotations

from typing import Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lengths are in steps: the median latent change of an imagined step that moves.

    space       what states are told apart by: all their numbers ("state"), or the columns of the agent's read-out, each
                in its own deviations ("read"), as states of tokens need it, whose numbers say little of how near they
                are
    directions  constant actions tried from every new node, each for `ray` steps
    spacing     a ray's end farther than this from all nodes becomes one, up to `nodes`; `expand` of them grow at a time
    touch       within this of the goal a node has reached it; reach: nodes farther than `reach` do not count as near
    stall       an action that moves by less than this share of a step is stalled
    look        directions tried from the present state, each for `look_ahead` steps
    aside       decisions of stepping aside after an action did not move the state
    execute     actions of a plan to carry out before the next decision
    """

    space: Literal["state", "read"] = "state"
    directions: int = 16
    ray: int = 3
    spacing: float = 1.2
    nodes: int = 450
    expand: int = 32
    touch: float = 1.5
    reach: float = 1.5
    stall: float = 0.4
    look: int = 32
    look_ahead: int = 6
    aside: int = 2
    execute: int = 2
