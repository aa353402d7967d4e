"""`gptloop web`: an exported model in the browser of this machine."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from gptloop.ending import ended_by

PORT = 8030


def add_web(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote, in fp32 or int8")
    add("--port", type=int, default=PORT, metavar="N", help=f"of 127.0.0.1; 0 for a free one (default: {PORT})")
    add("--page", type=Path, metavar="FOLDER", help="where the page was built (default: in the package)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    from gptloop.web import PAGE, PageServer, open_site  # noqa: PLC0415  (each command imports what it needs)

    site = open_site(options.file, PAGE if options.page is None else options.page)
    with ended_by(signal.SIGTERM, signal.SIGHUP), PageServer(site, options.port) as server:
        print(f"{options.file} is at {server.url} for this machine; Ctrl-C ends it", flush=True)
        server.serve_forever()
