"""What an agent's memory is given at every observed moment, and what happens to it where an episode begins.

Key and value are the belief's state, flattened; what is read from it is the business of whoever plans or imagines.
Shapes: B episodes, D numbers of one state.
"""

from __future__ import annotations

from dataclasses import replace

from steersman.agent.state import AgentState
from steersman.core import Belief, ConfigError, Memory
from steersman.core.records import where


def memorise(memory: Memory | None, state: AgentState, belief: Belief) -> AgentState:
    """The state with this moment in its memory; in episodes that begin with it, all that was there before is gone.

    Raises:
        ConfigError: a memory whose kept state has not the form of its initial one.
    """
    if memory is None:
        return state
    kept = memory.initial(len(state)) if state.memory is None else state.memory
    if state.memory is not None and bool(state.fresh.any()):
        try:
            kept = where(state.fresh, memory.initial(len(state)), state.memory)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                "a memory whose settled state has the form of its initial one, to begin an episode beside others",
                f"{type(memory).__name__}: {error}".splitlines()[0],
                "override `settle`, or reset() all episodes together") from error
    moment = belief.state.flatten(1)[:, None]
    return replace(state, memory=memory.settle(memory.write(kept, moment, moment)))
