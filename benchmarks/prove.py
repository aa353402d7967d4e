"""`python -m benchmarks.prove`: calibrate a machine, prove the gate on it. The work is in benchmarks/gate/prove.py."""

import sys

from benchmarks.command.ending import run


def main() -> int:
    """The command; imported here, because what is not installed is no verdict either."""
    from benchmarks.gate import prove  # noqa: PLC0415

    return prove.main()


if __name__ == "__main__":
    sys.exit(run("benchmarks.prove", main))
