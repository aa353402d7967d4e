"""`python -m benchmarks.change`: is this tree slower than its base? The work is in benchmarks/gate/change.py."""

import sys

from benchmarks.command.ending import run


def main() -> int:
    """The command; imported here, because what is not installed is no verdict either."""
    from benchmarks.gate import change  # noqa: PLC0415

    return change.main()


if __name__ == "__main__":
    sys.exit(run("benchmarks.change", main))
