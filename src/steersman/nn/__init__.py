"""Blocks without meaning: perceptrons, attention, positions, the embedding of actions; the optimiser of all of them."""

from steersman.nn.actions import ActionEmbedding
from steersman.nn.adamw import AdamW
from steersman.nn.allocator import retain_freed_memory
from steersman.nn.attention import CausalBlock, attend, attend_window
from steersman.nn.perceptron import DenseMembers, ResidualMLP, mlp
from steersman.nn.positions import rotary_frequencies, rotate, rotate_rows, sincos

__all__ = [
    "ActionEmbedding",
    "AdamW",
    "CausalBlock",
    "DenseMembers",
    "ResidualMLP",
    "attend",
    "attend_window",
    "retain_freed_memory",
    "mlp",
    "rotary_frequencies",
    "rotate",
    "rotate_rows",
    "sincos",
]
