"""Holds the product at a set-point, under a temperature limit, for half an hour of the plant's time.

    uv run python examples/reactor/control.py RUN [SEED]
"""

import sys

import torch

from steersman.agent import Agent
from steersman.core import ColumnGoal, Task
from steersman.worlds import reactor

LIMIT, PRODUCT = 140.0, 0.85  # °C, mol/l
agent = Agent.load(sys.argv[1])
generator = torch.Generator().manual_seed(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
task = Task(
    ColumnGoal({"C_b": PRODUCT, "T_R": LIMIT}, {"C_b": 0.1, "T_R": 20.0}),
    weights={"goal": 1.0, "smoothness": 0.036},
    guardrails=(agent.guardrails["cool"],),  # `steersman fit` calibrated its margin and keeps it with the run
    fallback=torch.tensor([15.0, -8400.0]),  # little feed, nearly all the cooling there is
)
state = torch.tensor(reactor.START, dtype=torch.float64)
conditions = reactor.disturbances(1, 100, generator)[0]
hottest, error = 0.0, 0.0
for period in range(100):
    plan = agent.act({"vector": reactor.measured(state, generator)}, task)
    state, peak = reactor.advance(state, plan.action[0].double(), conditions[period])
    hottest, error = max(hottest, float(peak)), error + abs(float(state[1]) - PRODUCT) * reactor.PERIOD
    if period % 10 == 0:
        words = ", ".join(f"{name} {value:.4g}" for name, value in zip(reactor.COLUMNS, state.tolist(), strict=True))
        print(f"{60 * period * reactor.PERIOD:4.1f} min  {words}")
print(f"tracking error {error:.4f} mol h/l; at most {hottest:.1f} °C of {LIMIT:g}; last: {plan.reason[0]}")
