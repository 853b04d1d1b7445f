"""Trained agents in forms that other programs run: ONNX graphs, and planning on them; torch.export programs.

How to choose: ONNX to act elsewhere (ONNX Runtime, C++, a phone); torch.export to stay within PyTorch without this
package; `Agent.save_pretrained` to hand a model to someone who has this package.
"""

from steersman.core.lazy import catalogue

__getattr__, __dir__, __all__ = catalogue(__name__, __file__)
