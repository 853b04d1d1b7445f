"""A plant's historian: 20,000 noisy rows of a stirred-tank reactor whose two inputs are set at random. No model here.

    uv run python examples/reactor/log.py [FILE] [SEED]
"""

import csv
import sys

from steersman.worlds import Plant, reactor

path = sys.argv[1] if len(sys.argv) > 1 else "reactor.csv"
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
with open(path, "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["episode", *reactor.COLUMNS, *reactor.ACTIONS])
    for number, episode in enumerate(Plant().log(100, 200, seed)):
        rows, actions = episode.observations["vector"].tolist(), episode.actions.tolist()
        for row, action in zip(rows, [*actions, ["", ""]], strict=True):
            table.writerow([number, *row, *action])
print(f"100 episodes of 200 steps: {path}")
