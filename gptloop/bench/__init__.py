"""How fast a model file is on this machine: some calls, timed within a budget, beside what memory can do.

Knows the runtime; no torch, and nothing of how the graph computes. Times are in seconds, sizes in bytes.
"""
