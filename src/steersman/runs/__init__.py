"""The run directory on disk: manifest, metrics, checkpoints, artefacts, the writer's lock. Never imports torch.

Knows files, not learning: whatever is shown from a run was computed before and written into it.
"""

from steersman.runs.checkpoints import CheckpointFile, CheckpointManifest
from steersman.runs.files import atomic_write, sha256_file
from steersman.runs.lock import WriterLock
from steersman.runs.manifest import GitState, Manifest
from steersman.runs.metrics import Metrics
from steersman.runs.run import Run, new_run_path

__all__ = [
    "CheckpointFile",
    "CheckpointManifest",
    "GitState",
    "Manifest",
    "Metrics",
    "Run",
    "WriterLock",
    "atomic_write",
    "new_run_path",
    "sha256_file",
]
