"""Runs the benchmarks and prints their tables; `--save` keeps them as a dated file that names the device."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SECTIONS = (
    "planning", "solvers", "mppi", "mcts", "training", "pixels", "tokens", "reading", "looking", "logs", "startup",
    "ways",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help=f"some of {','.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--save", action="store_true", help="keep the tables under benchmarks/results/")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where planning and training run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: all cores)")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"], help="cpu: for a busy machine, 1 thread")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else list(SECTIONS)
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"expected sections among {', '.join(SECTIONS)}; got {', '.join(sorted(unknown))}")

    import torch

    from benchmarks import (
        contest,
        logs,
        looking,
        machine,
        pixels,
        planning,
        planning_mcts,
        planning_mppi,
        planning_solvers,
        reading,
        startup,
        tokens,
        training,
        ways,
    )
    from benchmarks.tables import Table

    torch.set_num_threads(arguments.threads)
    contest.use_clock(arguments.clock)
    host = machine.measure(torch.device(arguments.device), arguments.clock, arguments.quick)
    sections: dict[str, Callable[[], list[Table]]] = {
        "planning": lambda: [planning.run(host, arguments.quick)],
        "solvers": lambda: [planning_solvers.run(host, arguments.quick)],
        "mppi": lambda: [planning_mppi.run(host, arguments.quick)],
        "mcts": lambda: [planning_mcts.run(host, arguments.quick)],
        "training": lambda: training.run(host, arguments.quick),
        "pixels": lambda: pixels.run(host, arguments.quick),
        "reading": lambda: reading.run(arguments.quick),
        "looking": lambda: looking.run(arguments.quick),
        "logs": lambda: logs.run(arguments.quick),
        "ways": lambda: [ways.run(arguments.quick)],
        "startup": lambda: [startup.run(arguments.quick)],
        "tokens": lambda: tokens.run(host, arguments.quick),
    }
    today = datetime.date.today().isoformat()
    lines = [f"# Benchmarks, {today}", "", *(f"{line}  " for line in host.lines())]
    print("\n".join(lines), flush=True)
    tables = []
    for name in SECTIONS:
        if name in wanted:
            for table in sections[name]():
                tables.append(table)
                print(f"\n{table.markdown()}", flush=True)
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        stem = RESULTS / f"{today}-{re.sub('[^a-z0-9]+', '-', host.name.lower()).strip('-')}"
        stem.with_suffix(".md").write_text("\n\n".join(["\n".join(lines), *(t.markdown() for t in tables)]) + "\n")
        record = {"date": today, "machine": host.json(), "tables": [t.json() for t in tables]}
        stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        print(f"\nkept as {stem.with_suffix('.md')}")


if __name__ == "__main__":
    main()
