"""`python -m benchmarks.prove`: calibrate a machine, prove the gate on it. The work is in benchmarks/gate/prove.py."""

from benchmarks.launch import launch

if __name__ == "__main__":
    launch("benchmarks.prove", "benchmarks.gate.prove")
