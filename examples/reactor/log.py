"""A plant's historian: 20,000 noisy rows of a stirred-tank reactor whose two inputs are set at random. No model here.

    uv run python examples/reactor/log.py [FILE] [SEED]
"""

import csv
import sys

import torch

from steersman.worlds import reactor

path = sys.argv[1] if len(sys.argv) > 1 else "reactor.csv"
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
kept = reactor.log(100, 200, torch.Generator().manual_seed(seed))
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", *reactor.COLUMNS, *reactor.ACTIONS])
    for episode, (rows, actions) in enumerate(zip(kept.measurements.tolist(), kept.actions.tolist(), strict=True)):
        for row, action in zip(rows, [*actions, ["", ""]], strict=True):
            table.writerow([episode, *row, *action])
print(f"100 episodes of 200 steps: {path}")
