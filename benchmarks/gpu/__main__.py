"""`python -m benchmarks.gpu`. The work is in benchmarks/gpu/run.py."""

import sys

from benchmarks.command.ending import run


def main() -> int:
    """The command; imported here, so that what is not installed is one line, too."""
    from benchmarks.gpu.run import main  # noqa: PLC0415

    return main()


if __name__ == "__main__":
    sys.exit(run("benchmarks.gpu", main))
