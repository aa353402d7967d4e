"""A file of prompts in, a file of results out, of any size and on any number of machines: `gptloop batch`.

prompts.py reads windows of prompts, plan.py makes batches of them, ray_workers.py generates on many machines,
journal.py keeps every finished batch, results.py writes the output from the journal, and run.py has them meet.
"""
