"""From a checkpoint to a file: the tensors that a graph stores, a write that is atomic, and what a file holds.

Knows checkpoints, graphs and files; not how a graph computes, nor who will run it.
"""
