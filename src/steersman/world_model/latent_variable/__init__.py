"""Latent variables: what a world model leaves to chance.

How to choose: categorical where a step has few outcomes that can be told apart (a fork, a gate, traffic that turns),
which trees can list; sparse where mostly nothing happens and, if something does, one of a few kinds by some amount;
Gaussian where what is open is an amount (wind, wear, noise). Given, not learned: the next state
of a table, the oracle; and plain noise, for a simulator of one's own.
"""

from steersman.world_model.latent_variable.categorical import Categorical
from steersman.world_model.latent_variable.gaussian import Gaussian
from steersman.world_model.latent_variable.noise import Noise
from steersman.world_model.latent_variable.sparse import Sparse
from steersman.world_model.latent_variable.table import NextState

__all__ = ["Categorical", "Gaussian", "NextState", "Noise", "Sparse"]
