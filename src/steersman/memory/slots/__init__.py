"""Short-term memory: slots that are matched softly, the costs of what was lived through, and search by key."""

from steersman.memory.slots.slots import Slots, SlotMemory

__all__ = ["SlotMemory", "Slots"]
