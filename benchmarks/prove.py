"""`python -m benchmarks.prove`: calibrate a machine, prove the gate on it. The work is in benchmarks/gate/prove.py."""

import sys

from benchmarks.gate.prove import main

if __name__ == "__main__":
    sys.exit(main())
