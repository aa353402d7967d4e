"""A server of some files to browsers on this machine.

It listens on 127.0.0.1. A request chooses among the files that it was given; nothing of it reaches the file system.
Pages of other sites get nothing: not by a name of theirs that leads here (Host is checked), nor by embedding (the
answers' headers).

Knows HTTP; not what is served.
"""

from __future__ import annotations

import shutil
import socketserver
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from gptloop.values import whole_number
from gptloop.web.site import Served

ADDRESS = "127.0.0.1"
PORT_MAX = 65535
IDLE_S = 60  # after which a client that says nothing is left

HEADERS = {
    # Scripts, workers and data from here only, and none from anywhere else; WebAssembly is compiled.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # With these the page is alone in its process, and WebAssembly gets threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # another model may be at the same address tomorrow
}


class PageServer(ThreadingHTTPServer):
    """The server, bound when it is made.

    Args:
        site: What it serves, by path.
        port: Where; 0 for one that is free.

    Attributes:
        url: The address for a browser.

    Raises:
        ValueError: If there is no such port.
        OSError: If the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, site: Mapping[str, Served], port: int):
        self.site = site
        whole_number("port", port, 0, PORT_MAX)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise OSError(f"port {port} of {ADDRESS} cannot be had: {error.strerror}") from error
        self.url = f"http://{ADDRESS}:{self.server_port}/"
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}

    def server_bind(self) -> None:
        """Without asking a name server for this machine's name, as HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go, or be silent, whenever it likes."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        served = self.server.site.get(unquote(urlsplit(self.path).path))
        try:
            file = served.path.open("rb") if served else None
        except OSError:  # removed since
            file = None
        if served is None or file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            size = file.seek(0, 2)
            file.seek(0)
            self._head(HTTPStatus.OK, served.type, size)
            if body:
                shutil.copyfileobj(file, self.wfile, 1 << 20)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """As http.server does it, with the headers of every answer and nothing of the request."""
        status = HTTPStatus(code)
        text = f"{status.value} {status.phrase}\n".encode()
        self._head(status, "text/plain; charset=utf-8", len(text))
        if self.command != "HEAD":
            self.wfile.write(text)

    def _head(self, status: HTTPStatus, type_: str, size: int) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": type_, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def version_string(self) -> str:
        """Without Python's version."""
        return "gptloop"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the command has said where it is, and the browser says what is missing."""
