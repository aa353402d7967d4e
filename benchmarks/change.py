"""`python -m benchmarks.change`: is this tree slower than its base? The work is in benchmarks/gate/change.py."""

import sys

from benchmarks.gate.change import main

if __name__ == "__main__":
    sys.exit(main())
