"""What all tests share: small tensors on one thread, no display, no time limit on a property's single example."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis

hypothesis.settings.register_profile("steersman", deadline=None, print_blob=True)
hypothesis.settings.load_profile("steersman")
