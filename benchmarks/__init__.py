"""Speed, side by side with other packages, in one run on one machine. Figures of quality are in `steersman.evidence`.

    uv run --extra bench python -m benchmarks [--only planning,training,reading,logs,startup] [--quick] [--save]
"""
