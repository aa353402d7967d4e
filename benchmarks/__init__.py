"""The performance regression suite: `pytest benchmarks --benchmark-autosave`."""
