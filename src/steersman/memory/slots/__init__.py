"""Short-term memory: slots that are matched softly, the costs of what was lived through, and search by key."""

from steersman.memory.slots.search import Near, NearestKeys
from steersman.memory.slots.slots import SlotMemory, Slots
from steersman.memory.slots.triplets import TripletMemory, Triplets, read_triplets

__all__ = ["Near", "NearestKeys", "SlotMemory", "Slots", "TripletMemory", "Triplets", "read_triplets"]
