"""`python -m benchmarks.bisect`: which commit made a gated case slower? The work is in benchmarks/gate/bisect.py."""

import sys

from benchmarks.command.ending import run


def main() -> int:
    """The command; imported here, because what is not installed is no verdict either."""
    from benchmarks.gate import bisect  # noqa: PLC0415

    return bisect.main()


if __name__ == "__main__":
    sys.exit(run("benchmarks.bisect", main))
