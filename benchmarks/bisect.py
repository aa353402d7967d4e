"""`python -m benchmarks.bisect`: which commit made a gated case slower? The work is in benchmarks/gate/bisect.py."""

from benchmarks.launch import launch

if __name__ == "__main__":
    launch("benchmarks.bisect", "benchmarks.gate.bisect")
