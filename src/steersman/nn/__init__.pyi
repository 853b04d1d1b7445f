from .actions import ActionEmbedding as ActionEmbedding
from .adamw import AdamW as AdamW
from .allocator import retain_freed_memory as retain_freed_memory
from .attention import CausalBlock as CausalBlock, attend as attend, attend_window as attend_window
from .fitting import fit as fit, redraw as redraw
from .growing import LowRank as LowRank, apply_changes as apply_changes, layers_of as layers_of
from .growing import merged as merged
from .perceptron import DenseMembers as DenseMembers, mlp as mlp
from .positions import rotary_frequencies as rotary_frequencies, rotate as rotate, rotate_rows as rotate_rows
from .positions import sincos as sincos
from .token_block import TokenBlock as TokenBlock
