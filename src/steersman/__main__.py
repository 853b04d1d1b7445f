"""`python -m steersman` and `torchrun -m steersman`: the command line."""

from steersman.cli import main

raise SystemExit(main())
