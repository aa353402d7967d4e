"""`python -m benchmarks.change`: is this tree slower than its base? The work is in benchmarks/gate/change.py."""

from benchmarks.launch import launch

if __name__ == "__main__":
    launch("benchmarks.change", "benchmarks.gate.change")
