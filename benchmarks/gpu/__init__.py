"""All measurements that need a GPU, in one command: `python -m benchmarks.gpu --output FOLDER`."""
