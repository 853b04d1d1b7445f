"""Memory: what was experienced, kept in a form that can be searched. So far: graphs of remembered states."""

from steersman.core.latent_graph import GraphConfig
from steersman.memory.graph import build_graph

__all__ = ["GraphConfig", "build_graph"]
