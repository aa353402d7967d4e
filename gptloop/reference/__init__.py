"""What the graph is compared with: the PyTorch loop, whether two loops agree, and what a precision costs."""
