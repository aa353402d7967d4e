"""`python -m gptloop`: the command line."""

import sys

from gptloop.cli import main

if __name__ == "__main__":
    sys.exit(main())
