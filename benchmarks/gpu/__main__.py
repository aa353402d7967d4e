"""`python -m benchmarks.gpu`. The work is in benchmarks/gpu/run.py."""

from benchmarks.launch import launch

if __name__ == "__main__":
    launch("benchmarks.gpu", "benchmarks.gpu.run")
