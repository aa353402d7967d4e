"""What a machine is and can do: its facts, where its cores are, a GPU's speed and what a step makes it do."""

from benchmarks.machine.description import facts, has_gpu

__all__ = ["facts", "has_gpu"]
