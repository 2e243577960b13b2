"""oned's XML-RPC, as far as drivers use it: documents are read; only operations of the stand-in change anything."""

from __future__ import annotations

import threading
import time
from http.server import ThreadingHTTPServer
from typing import Any, Callable, Dict
from xmlrpc.client import Fault, dumps, loads
from xmlrpc.server import SimpleXMLRPCRequestHandler

from .building import Refused
from .users import Users

_NO_EXISTS = 0x0400
_NOUNS = {"vm": "virtual machine"}
_AUTHENTICATION = 0x0100
_AUTHORIZATION = 0x0200
_ACTION = 0x0800


class RpcServer:
    """Serves [ok, document or message, code] on 127.0.0.1; can be stopped, made slow, or made to answer nonsense."""

    def __init__(self, session: str, methods: Dict[str, Callable[..., Any]], port: int = 0) -> None:
        self.users = Users(session)
        self._methods = {**methods, **self.users.methods}
        self._port = port
        self._server: ThreadingHTTPServer | None = None
        self.questions: list[tuple[str, tuple[Any, ...]]] = []
        self.delay_s = 0.0
        self.garbage: bytes | None = None
        self.error: str | None = None

    @property
    def url(self) -> str:
        """ONE_XMLRPC for drivers; it stays the same over stop() and start()."""
        return f"http://127.0.0.1:{self._port}/RPC2"

    def start(self) -> None:
        """Listen; a free port is taken the first time."""
        server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """Stop listening: connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, method: str, arguments: tuple[Any, ...]) -> list[Any]:
        """What oned answers to one question."""
        self.questions.append((method, arguments[1:]))
        if self.delay_s:
            time.sleep(self.delay_s)
        user = self.users.of_session(arguments[0]) if arguments else None
        if user is None:
            return [False, f"[{method}] User couldn't be authenticated, aborting call.", _AUTHENTICATION]
        if self.error is not None:
            return [False, f"[{method}] {self.error}", _ACTION]
        refusal = self.users.refusal(user, method, arguments[1:])
        if refusal:
            return [False, refusal, _AUTHORIZATION]
        if method == "one.hostpool.info" and not self.users.sees_hosts(user):
            return [True, "<HOST_POOL></HOST_POOL>", 0]
        try:
            asking = (user,) if method in self.users.methods else ()
            return [True, self._methods[method](*asking, *arguments[1:]), 0]
        except Refused as refused:
            return [False, str(refused), _ACTION]
        except KeyError as missing:
            kind = method.split(".")[1]
            return [False, f"[{method}] Error getting {_NOUNS.get(kind, kind)} [{missing.args[0]}].", _NO_EXISTS]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    logRequests = False  # SimpleXMLRPCRequestHandler asks its server for it


def _handler(rpc: RpcServer) -> type[SimpleXMLRPCRequestHandler]:
    class Handler(SimpleXMLRPCRequestHandler):
        """One POST is one question."""

        def do_POST(self) -> None:
            """Read a call, write its answer."""
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if rpc.garbage is not None:
                answer = rpc.garbage
            else:
                try:
                    arguments, method = loads(body)
                    if method not in rpc._methods:
                        raise Fault(-506, f"Method '{method}' not defined")
                    answer = dumps((rpc.answer(str(method), arguments),), methodresponse=True).encode()
                except Fault as fault:
                    answer = dumps(fault, methodresponse=True).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Questions are kept in RpcServer.questions instead."""

    return Handler
