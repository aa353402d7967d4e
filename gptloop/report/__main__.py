"""`python -m gptloop.report`."""

import sys

from gptloop.report.command import main

if __name__ == "__main__":
    sys.exit(main())
