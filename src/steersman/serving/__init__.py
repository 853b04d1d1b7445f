"""A trained agent behind a small HTTP interface on this machine: loopback only, a token, guardrails that no client can
switch off. Needs the extra `serve`; `steersman serve RUN` starts it."""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
