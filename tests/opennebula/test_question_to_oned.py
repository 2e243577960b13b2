"""One question to oned: answers, refusals, silence and nonsense."""

from __future__ import annotations

import http.server
import threading

import pytest

from dnc.errors import BadConfig, BadInput, OnedError, Unreachable
from dnc.opennebula import oned

ANSWER = (
    "<methodResponse><params><param><value><array><data><value><boolean>{ok}</boolean></value>"
    "<value><string>{text}</string></value><value><i4>0</i4></value></data></array></value></param></params></methodResponse>"
)
VM = "&lt;VM&gt;&lt;ID&gt;5&lt;/ID&gt;&lt;TEMPLATE/&gt;&lt;/VM&gt;"


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Answers every POST with (status, body); collects the requests."""
    auth = tmp_path / "one_auth"
    auth.write_text("oneadmin:pass&word\n")
    monkeypatch.setenv("ONE_AUTH", str(auth))
    servers = []

    def start(body, status=200):
        requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                requests.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_args):
                return

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("ONE_XMLRPC", f"http://127.0.0.1:{server.server_port}/RPC2")
        return requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_vm_info(serve):
    requests = serve(ANSWER.format(ok=1, text=VM))
    assert oned.vm_info(5).id == 5
    assert "<methodName>one.vm.info</methodName>" in requests[0] and "oneadmin:pass&amp;word" in requests[0]


def test_refusal(serve):
    serve(ANSWER.format(ok=0, text="[one.vm.info] User couldn't be authenticated"))
    with pytest.raises(OnedError, match="refuses one.vm.info"):
        oned.vm_info(5)


@pytest.mark.parametrize("body", ["", "hello", "<html/>", "<methodResponse/>", ANSWER.format(ok=1, text="")])
def test_nonsense(serve, body):
    serve(body)
    with pytest.raises((BadInput, OnedError)):
        oned.vm_info(5)


def test_http_error(serve):
    serve("oops", status=503)
    with pytest.raises(Unreachable, match="HTTP 503"):
        oned.vm_info(5)


def test_nobody_listens(serve, monkeypatch):
    serve("")
    monkeypatch.setenv("ONE_XMLRPC", "http://127.0.0.1:1/RPC2")
    with pytest.raises(Unreachable, match="oned does not answer at http://127.0.0.1:1/RPC2"):
        oned.vm_info(5)


def test_credentials(serve, monkeypatch, tmp_path):
    serve("")
    monkeypatch.setenv("ONE_AUTH", str(tmp_path / "none"))
    with pytest.raises(BadConfig, match="no oned credentials"):
        oned.vm_info(5)
    (tmp_path / "empty").write_text("x\n")
    monkeypatch.setenv("ONE_AUTH", str(tmp_path / "empty"))
    with pytest.raises(BadConfig, match="no user:password"):
        oned.vm_info(5)
