"""The only module that starts a process: argv lists only, logged so that they can be pasted into a shell."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import IO, Callable, Dict, NamedTuple, Optional, Sequence, Tuple, Union

from .errors import NoPrivilege, TimedOut, ToolFailed, ToolMissing
from .log import Log, redact

# sshd gives non-login shells a PATH without sbin (contract 2.1).
SEARCH_PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


Stream = Union[int, IO[bytes], None]


class Result(NamedTuple):
    """What a finished command left behind; texts are decoded as UTF-8, undecodable bytes escaped."""

    argv: Tuple[str, ...]
    status: int
    stdout: str
    stderr: str


def quote(argv: Sequence[str]) -> str:
    """`argv` as one line that can be pasted into a shell, secrets removed."""
    words = [word if word and _SAFE.issuperset(word) else "'" + word.replace("'", "'\"'\"'") + "'" for word in argv]
    return redact(" ".join(words))


def find_tool(name: str) -> str:
    """The absolute path of a tool. Raises ToolMissing."""
    if name.startswith("/"):
        return name
    for directory in SEARCH_PATH:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    raise ToolMissing(f"{name} is not installed", hint=f"install the package that has {name}, then try again")


class Runner:
    """Runs commands for one action. `count` is the number of processes started, sudo not counted apart."""

    def __init__(self, log: Log, *, dry_run: bool = False) -> None:
        self.log = log
        self.dry_run = dry_run
        self.count = 0
        self._paths: Dict[str, str] = {}

    def run(
        self, argv: Sequence[str], *, privileged: bool = False, changes: bool = True, stdin: Optional[bytes] = None,
        ok: Tuple[int, ...] = (0,), timeout: float = 120.0,
    ) -> Result:
        """Run a command to its end.

        changes=False marks a pure question, which is asked in a dry run too. Raises ToolFailed for a status
        outside `ok`, ToolMissing, NoPrivilege (sudo refused), TimedOut after `timeout` seconds.
        """
        if self.dry_run and changes:
            self.log.info(f"would run: {quote(argv)}")
            return Result(tuple(argv), 0, "", "")
        full = self.resolve(argv, privileged=privileged)
        self.log.debug(f"run: {quote(full)}")
        self.count += 1
        process = self._spawn(full, subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            self._abandon(process, full)
            raise TimedOut(
                f"{argv[0]} did not end within {timeout:.0f} s", command=quote(full),
                hint=f"look at what it waits for: {quote(full)}",
            ) from None
        except BaseException:
            self._abandon(process, full)
            raise
        result = Result(
            full, process.returncode, stdout.decode("utf-8", "backslashreplace"),
            stderr.decode("utf-8", "backslashreplace"),
        )
        if result.status not in ok:
            raise failure(result, argv[0], privileged=privileged)
        return result

    def start(
        self, argv: Sequence[str], *, privileged: bool = False, stdin: Stream = subprocess.PIPE,
        stdout: Stream = subprocess.PIPE, stderr: Stream = subprocess.PIPE,
        environment: Optional[Dict[str, str]] = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command whose streams the caller serves (an ssh session, a decoder). Raises ToolMissing."""
        full = self.resolve(argv, privileged=privileged)
        self.log.debug(f"start: {quote(full)}")
        self.count += 1
        env = self._environment()
        env.update(environment or {})
        return self._spawn(full, stdin, stdout, stderr, env)

    def _spawn(
        self, full: Tuple[str, ...], stdin: Stream, stdout: Stream = subprocess.PIPE, stderr: Stream = subprocess.PIPE,
        environment: Optional[Dict[str, str]] = None,
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                full, stdin=stdin, stdout=stdout, stderr=stderr, env=environment or self._environment()
            )
        except OSError as error:
            name = os.path.basename(full[0])
            raise ToolMissing(f"{name} cannot be started: {error.strerror}", command=quote(full)) from None

    def _abandon(self, process: subprocess.Popen[bytes], full: Tuple[str, ...]) -> None:
        """End a command that nobody waits for any more; one that sudo made root's can only be left behind."""
        try:
            process.kill()
        except PermissionError:
            self.log.warn(f"process {process.pid} belongs to root and goes on: {quote(full)}")

    def resolve(self, argv: Sequence[str], *, privileged: bool = False) -> Tuple[str, ...]:
        """argv with absolute tool path, behind `sudo -n` where privilege is needed and we are not root."""
        name = argv[0]
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = find_tool(name)
        full = (path, *argv[1:])
        if privileged and os.geteuid() != 0:
            return (find_tool("sudo"), "-n", *full)
        return full

    @staticmethod
    def _environment() -> Dict[str, str]:
        env = dict(os.environ)
        env["LC_ALL"] = "C"  # parsers read C locale texts
        env["PATH"] = env.get("PATH", "") + ":" + ":".join(SEARCH_PATH)
        return env


def failure(result: Result, tool: str, *, privileged: bool = False) -> Union[ToolFailed, NoPrivilege]:
    """The error for a finished command: what the tool said last, or sudo's refusal."""
    text = redact(result.stderr.strip() or result.stdout.strip())
    if privileged and text.startswith("sudo:"):
        return NoPrivilege(
            f"sudo refuses {tool} to this user", command=quote(result.argv),
            hint="install the sudoers file of dnc (share/host/prepare)",
        )
    said = text.splitlines()[-1].strip() if text else f"exit status {result.status}"
    error = ToolFailed(f"{tool} failed: {said[:300]}", command=quote(result.argv))
    error.status = result.status
    error.stderr = text
    return error


class Apart(NamedTuple):
    """A process of ours that outlives us: where we write to it, and read from it."""

    requests: int
    replies: int


def start_apart(act: Callable[[int, int], None]) -> Apart:
    """Run `act(requests, replies)` in a process of its own session, which no signal for us reaches.

    It reads the end of `requests` as soon as we end, also by SIGKILL. Forked, not started: it is there at once, and
    needs nothing from a disk that may be slow by then.
    """
    their_requests, requests = os.pipe()
    replies, their_replies = os.pipe()
    if os.fork():
        os.close(their_requests)
        os.close(their_replies)
        return Apart(requests, replies)
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        # Nothing of ours stays open in it: locks, devices, the stream by which the frontend sees our end.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in (their_requests, their_replies):
                try:
                    os.close(int(name))
                except OSError:
                    continue  # the listing's own
        act(their_requests, their_replies)
    finally:
        os._exit(0)
