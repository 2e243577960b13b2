"""How driver scripts are run: here as a process, on a host through `ssh HOST bash -s` (contract 1.1, 2.1, 7.2)."""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import shlex
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import IO, Any, Callable, Dict, Protocol

from .calls import Call, Completed

_MISSING_SCRIPT = 42
_END_OUT = "EOF_OUT"
_END_ERR = "EOF_ERR"
_FORWARD = ("-o", "ForwardAgent=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none")


class Stream(Protocol):
    """One ssh session of a virtualisation action."""

    def script(self, call: Call) -> Completed: ...

    def shell(self, command: str, stdin: str) -> Completed: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """What the three drivers need to run scripts."""

    def has_script(self, family: str, driver: str, action: str) -> bool: ...

    def local(self, call: Call) -> Completed: ...

    def remote(self, call: Call) -> Completed: ...

    def open_stream(self, host: str, forward: bool) -> Stream: ...

    def command(self, host: str, script: str, stdin: str) -> Completed: ...

    def stop(self) -> None: ...


def encoded(call: Call) -> bytes:
    """The bytes that a script finds on stdin."""
    if call.stdin_encoding == "none":
        return b""
    text = call.stdin.encode()
    return base64.b64encode(text) if call.stdin_encoding == "base64" else text


class ProcessBackend:
    """Runs the installed executables, as the user and with the environment that oned gives to drivers."""

    def __init__(self, remotes: Path, on_host: str, environment: Dict[str, str], user: str | None) -> None:
        self.remotes = remotes
        self.on_host = on_host
        self.environment = environment
        self.user = user
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.repair: Callable[[str], None] = _no_repair

    def has_script(self, family: str, driver: str, action: str) -> bool:
        """Whether remotes hold an executable for that action."""
        path = self.remotes / family / driver / action
        return os.access(path, os.X_OK) and path.is_file()

    def script_on_host(self, call: Call) -> str:
        """Path of the script in the host's copy of remotes."""
        return f"{self.on_host}/{call.mad}/{call.driver}/{call.action}"

    def local(self, call: Call) -> Completed:
        """Run a script of remotes here."""
        family = {"ds": "datastore"}.get(call.mad, call.mad)
        call.env, call.cwd = dict(self.environment), self.environment["PWD"]
        return self._run([str(self.remotes / family / call.driver / call.action), *call.argv], encoded(call))

    def remote(self, call: Call) -> Completed:
        """One plain ssh, as for actions outside the step engine: arguments unquoted, stdin piped."""
        script = self.script_on_host(call)
        command = f"if [ -x \"{script}\" ]; then {script} {' '.join(call.argv)}; else exit {_MISSING_SCRIPT}; fi"
        done = self._run(["ssh", call.where, command], encoded(call))
        if done.rc == _MISSING_SCRIPT:
            self.repair(call.where)
            done = self._run(["ssh", call.where, command], encoded(call))
        return done

    def command(self, host: str, script: str, stdin: str) -> Completed:
        """One plain ssh with a script and text on stdin."""
        return self._run(["ssh", host, script], stdin.encode())

    def open_stream(self, host: str, forward: bool) -> Stream:
        """The session in which an action's steps run on a host."""
        return SshStream(self, host, forward)

    def start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start a process as the drivers' user; stop() ends what is left."""
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment,
            cwd=self.environment["PWD"], start_new_session=True, **user_arguments(self.user),
        )
        with self._lock:
            self._running = {one for one in self._running if one.poll() is None} | {process}
        return process

    def finished(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a process that has ended."""
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """End every process that still runs."""
        with self._lock:
            left = list(self._running)
        for process in left:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _run(self, argv: list[str], stdin: bytes) -> Completed:
        try:
            process = self.start(argv)
        except OSError as error:
            return Completed(127, "", f"{argv[0]}: {error.strerror}")
        out, err = process.communicate(stdin)
        self.finished(process)
        return Completed(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def _no_repair(host: str) -> None:
    """Without an installation there is nothing to copy to a host."""


def user_arguments(user: str | None) -> Dict[str, Any]:
    """Popen arguments that give up root for that user (None keeps the present one)."""
    if user is None or os.geteuid() != 0:
        return {}
    return {"user": user, "group": _group_of(user), "extra_groups": ()}


def _group_of(user: str) -> int:
    import pwd  # only root needs it

    return pwd.getpwnam(user).pw_gid


class SshStream:
    """A shell on a host that is fed one command after the other; opened with the first."""

    def __init__(self, backend: ProcessBackend, host: str, forward: bool) -> None:
        self._backend = backend
        self._host = host
        self._forward = forward
        self._process: subprocess.Popen[bytes] | None = None
        self._dead = ""

    def script(self, call: Call) -> Completed:
        """Test that the script is there (copying remotes anew if not), then run it with a here-document."""
        script = self._backend.script_on_host(call)
        check = self._execute(f"if [ ! -x \"{script}\" ]; then exit {_MISSING_SCRIPT} 1>&2; fi", "")
        if check.rc == _MISSING_SCRIPT:
            self._backend.repair(self._host)
        # the id and the host, which every script gets, stand unquoted at the end; nothing in them needs quotes
        arguments = " ".join(shlex.quote(one) if one else "''" for one in call.argv)
        return self.shell(f"{script} {arguments}", encoded(call).decode())

    def shell(self, command: str, stdin: str) -> Completed:
        """A command with text on stdin; a line that is exactly EOT ends it early, as with OpenNebula (contract 2.1)."""
        return self._execute(f"cat << 'EOT' | {command}", f"{stdin}\nEOT\n")

    def close(self) -> None:
        """End the session, as one_vmm_exec does: say exit, close the pipes, wait for nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        pipes = [one for one in (process.stdin, process.stdout, process.stderr) if one]
        steps: list[Callable[[], None]] = [partial(self._write, process, b"\nexit\n"), *(pipe.close for pipe in pipes)]
        for step in steps:
            with contextlib.suppress(BrokenPipeError):  # ssh may have ended already
                step()

    def _execute(self, command: str, stdin: str) -> Completed:
        if self._dead:
            return Completed(255, "", self._dead)
        if self._process is None:
            options = _FORWARD if self._forward else ()
            self._process = self._backend.start(["ssh", *options, self._host, "bash -s"])
        process = self._process
        line = f"({command}); echo \"ExitCode: $? {_END_ERR}\" 1>&2; echo \"{_END_OUT}\"\n{stdin}"
        with contextlib.suppress(BrokenPipeError):  # why ssh ended is in what it wrote
            self._write(process, line.encode())
        return self._await_end(process)

    @staticmethod
    def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
        stream = process.stdin
        if stream is None:
            raise OSError("no pipe to ssh")
        stream.write(data)
        stream.flush()

    def _await_end(self, process: subprocess.Popen[bytes]) -> Completed:
        texts: Dict[str, str] = {"out": "", "err": ""}
        with selectors.DefaultSelector() as selector:
            pipes: list[tuple[str, IO[bytes] | None]] = [("out", process.stdout), ("err", process.stderr)]
            for name, pipe in pipes:
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, name)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fileobj)
                        continue
                    texts[key.data] += data.decode(errors="replace")
                done = _ended(texts["out"], texts["err"])
                if done is not None:
                    return done
        return self._lost(process, texts["out"], texts["err"])

    def _lost(self, process: subprocess.Popen[bytes], out: str, err: str) -> Completed:
        status = process.wait()
        self._dead = f"{err}ExitSSHCode: {status}\nError connecting to {self._host}"
        return Completed(status or 255, out, self._dead)


def _ended(out: str, err: str) -> Completed | None:
    """The result once both markers have come, else None; as with OpenNebula "ExitCode: n" stays in stderr."""
    if f"{_END_OUT}\n" not in out:
        return None
    for line in err.split("\n"):
        if line.endswith(f" {_END_ERR}"):
            start = line.rfind("ExitCode: ")
            code = line[start + len("ExitCode: "):-len(_END_ERR) - 1]
            return Completed(int(code), out.replace(f"{_END_OUT}\n", "", 1), err.replace(f" {_END_ERR}\n", "", 1))
    return None
