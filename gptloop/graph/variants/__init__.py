"""Graphs of the same parts that are not the one that users run.

lean.py and fused.py: less in a step, for a GPU. step.py: prefill and step apart, driven from outside. score.py: scores
a text instead of continuing it; taps.py: that with every product's input and output. products.py: the matrix products
alone, to know the machine's limit.
"""
