"""World models: latent, action, chance -> next latent.

How to choose: residual where an observation tells the state, recurrent or transformer where only the history does,
observer where measurements are noisy and unmeasured disturbances come and stay, map reader where what happens depends
on the scene around the state. The first three take states of tokens as tokens (token_residual.py and its
neighbours); token convolution where tokens lie on a grid and what happens to one is decided nearby, as in pictures made
of tiles.
Trajectory sampling is put round an ensemble for planning: what it is unsure of is then left to chance (PETS).
Linear and tabular models are given, not learned: oracles to test planners with. LeWM's and V-JEPA 2's predictors come
from files that others published (`agent.load_published`). Slot changes is for states of objects of which few move,
Kalman slots for things of which most are out of sight, or which are pushed by somebody who is only watched.
"""

from steersman.world_model.ego import EgoModel
from steersman.world_model.kalman_slots import KalmanSlots
from steersman.world_model.lewm import LeWMModel
from steersman.world_model.linear import LinearModel
from steersman.world_model.map_reader import MapReader
from steersman.world_model.observer import ObserverModel
from steersman.world_model.recurrent import RecurrentModel
from steersman.world_model.residual import ResidualModel
from steersman.world_model.slot_changes import SlotChanges
from steersman.world_model.tabular import TabularModel
from steersman.world_model.token_convolution import TokenConvolution
from steersman.world_model.token_recurrent import TokenRecurrent
from steersman.world_model.token_residual import TokenResidual
from steersman.world_model.token_transformer import TokenTransformer
from steersman.world_model.trajectory_sampling import TrajectorySampling
from steersman.world_model.transformer import TransformerModel
from steersman.world_model.vjepa2 import VJEPA2Model

__all__ = [
    "EgoModel", "KalmanSlots", "LeWMModel", "LinearModel", "MapReader", "ObserverModel", "RecurrentModel",
    "ResidualModel", "SlotChanges", "TabularModel", "TokenConvolution", "TokenRecurrent", "TokenResidual",
    "TokenTransformer", "TrajectorySampling", "TransformerModel", "VJEPA2Model",
]
