"""`gptloop web`: what it serves, to whom, and what it refuses."""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from gptloop import export
from gptloop.cli import main
from gptloop.web import PageServer, open_site
from gptloop.web.server import HEADERS

MARK = "<title>the page</title>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page that is served as the built one is."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "lib").mkdir()
    (folder / "index.html").write_text(MARK)
    (folder / "lib" / "one.wasm").write_bytes(b"\0asm")
    (folder / "notes.txt").write_text("not of a kind that a page has")
    return folder


@pytest.fixture(scope="module")
def server(trained, page):
    with PageServer(open_site(trained.path, page), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server, path, *, method="GET", headers=None):
    """The answer, and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    host = [("Host", f"127.0.0.1:{server.server_port}")]
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in host if headers is None else headers:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read()


def test_the_page_and_the_models_files_are_served_whole(server, trained):
    data, tokenizer = (next(trained.path.parent.glob(f"trained*{end}")) for end in (".data", ".json"))
    expected = {
        "/": (MARK.encode(), "text/html; charset=utf-8"),
        "/index.html?threads=2": (MARK.encode(), "text/html; charset=utf-8"),
        "/lib/one.wasm": (b"\0asm", "application/wasm"),
        "/model/model.onnx": (trained.path.read_bytes(), "application/octet-stream"),
        f"/model/{data.name}": (data.read_bytes(), "application/octet-stream"),
        f"/model/{tokenizer.name}": (tokenizer.read_bytes(), "application/octet-stream"),
    }
    for path, (content, kind) in expected.items():
        answer, body = ask(server, path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind), path
        assert body == content, path
        head, nothing = ask(server, path, method="HEAD")
        assert (head.status, head.headers["Content-Length"], nothing) == (200, str(len(content)), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/notes.txt",
        "/lib",
        "/lib/",
        "/model/",
        "/model/checkpoint/config.json",
        "/../page/index.html",
        "/lib/../index.html",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/model/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/model/model.onnx%00",
        "*",
    ],
)
def test_nothing_else_is(server, path):
    answer, body = ask(server, path)
    assert (answer.status, body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize(
    "hosts", [[], ["evil.example"], ["127.0.0.1"], ["127.0.0.1:1"], ["localhost:{port}", "evil.example"]], ids=str
)
def test_a_name_of_another_site_that_leads_here_gets_nothing(server, hosts):
    """DNS rebinding: a page of that site would be of the same origin."""
    headers = [("Host", host.format(port=server.server_port)) for host in hosts]
    answer, body = ask(server, "/model/model.onnx", headers=headers)
    assert (answer.status, body) == (421, b"421 Misdirected Request\n")


def test_this_machines_own_names_are_taken(server):
    for name in ("127.0.0.1", "localhost"):
        answer, _ = ask(server, "/", headers=[("Host", f"{name}:{server.server_port}")])
        assert answer.status == 200


def test_every_answer_keeps_other_sites_out(server):
    answers = [
        ask(server, "/")[0],
        ask(server, "/no")[0],
        ask(server, "/", method="POST")[0],
        ask(server, "/", headers=[])[0],
    ]
    assert [answer.status for answer in answers] == [200, 404, 501, 421]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert answer.headers["Server"] == "gptloop"
    policy = HEADERS["Content-Security-Policy"]
    assert "http" not in policy
    assert "*" not in policy


def test_it_listens_on_this_machines_own_address_only(server):
    assert server.socket.getsockname() == ("127.0.0.1", server.server_port)
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_a_client_that_leaves_or_says_nonsense_ends_nothing(server, capfd):
    for said in (b"", b"\0\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost", b"GET /model/model.onnx HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.sendall(said)
    assert ask(server, "/")[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_gone_is_not_found(trained, page, tmp_path):
    for path in trained.path.parent.glob("trained*"):
        shutil.copy(path, tmp_path)
    with PageServer(open_site(tmp_path / "trained.onnx", page), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "trained.onnx").unlink()
        assert ask(server, "/model/model.onnx")[0].status == 404
        server.shutdown()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_the_command_says_where_the_page_is_and_ends_at_a_signal(trained, page, number, code):
    command = [sys.executable, "-m", "gptloop", "web", trained.path, "--port", "0", "--page", page]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stderr.read() == "gptloop: interrupted\n"
    assert said.startswith(f"{trained.path} is at http://127.0.0.1:")
    assert said.endswith("/ for this machine; Ctrl-C ends it\n")


@pytest.fixture
def refused(capsys):
    """The one line of a command that refuses."""

    def refused_(*arguments: object) -> str:
        capsys.readouterr()
        assert main(["web", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err.removeprefix("gptloop: error: ").rstrip("\n")

    return refused_


def test_what_cannot_be_served_is_refused_in_one_line(tiny, tiny_model, page, tmp_path, refused):
    fp16, lean = tmp_path / "fp16.onnx", tmp_path / "lean.onnx"
    export(tiny_model(), fp16, precision="fp16")
    export(tiny_model(), lean, flavor="lean")
    assert refused(tmp_path / "no.onnx", "--page", page) == f"no such model file: {tmp_path / 'no.onnx'}"
    assert refused(fp16, "--page", page) == f"{fp16} is in fp16: a browser runs fp32 and int8"
    assert refused(lean, "--page", page) == f"{lean} is of flavor 'lean', which is for a GPU: the page runs 'standard'"
    assert refused(tiny.path, "--page", tmp_path) == (
        f"no page in {tmp_path}: in a checkout of gptloop, npm ci --prefix web && npm run build --prefix web builds it"
    )
    assert refused(tiny.path, "--page", page, "--port", 65536) == "port must be at most 65535, got 65536"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(tiny.path, "--page", page, "--port", port)
        assert message == f"port {port} of 127.0.0.1 cannot be had: Address already in use"


def test_a_model_without_its_tokenizer_is_refused(trained, page, tmp_path, refused):
    for path in trained.path.parent.glob("trained*"):
        if path.suffix != ".json":
            shutil.copy(path, tmp_path)
    assert refused(tmp_path / "trained.onnx", "--page", page).startswith(
        f"{tmp_path / 'trained.onnx'} needs its tokenizer"
    )
