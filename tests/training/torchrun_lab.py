"""What `torchrun --nproc-per-node 2 torchrun_lab.py RUN` does in each process: one training, one run."""

import os
import sys

from small_world import Drift, config

from steersman.runs import Run
from steersman.training import train

leads = os.environ["RANK"] == "0"
trained = train(config(batch_size=12), Drift(), Run.open(sys.argv[1]) if leads else None)
assert trained.finished
