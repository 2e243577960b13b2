"""The process behind a simulated farm: makes the hosts, and in each host serves sessions as sshd would.

Started by farm.py as root with one JSON document on stdin; all ends when it, or its starter, ends.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from sim import namespace, power  # noqa: E402

PATHS = {True: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", False: "/usr/local/bin:/usr/bin:/bin"}


class Server:
    """sshd of one host."""

    def __init__(self, sockets: str, host: dict) -> None:
        self.host = host
        self.home = f"/run/sim/live/hosts/{host['name']}"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(f"{sockets}/{host['name']}")
        os.chmod(f"{sockets}/{host['name']}", 0o777)
        self.listener.listen(128)
        self.waiting: dict[int, socket.socket] = {}

    def serve(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        while True:
            ready, _, _ = select.select([self.listener, wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
                self.reap()
            if self.listener in ready:
                client, _ = self.listener.accept()
                self.accept(client)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            client = self.waiting.pop(pid, None)
            remove(f"/run/sim/live/sessions/{pid}")
            if client is None:
                continue
            if os.path.exists(f"{self.home}/off"):
                answer: dict = {}
            else:
                answer = {"status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else UNREACHABLE_BY_SIGNAL}
            reply(client, answer)

    def accept(self, client: socket.socket) -> None:
        data, rights, _flags, _address = client.recvmsg(1 << 20, socket.CMSG_SPACE(3 * 4))
        descriptors = array.array("i")
        for _level, _kind, value in rights:
            descriptors.frombytes(value[: len(value) - len(value) % 4])
        while data and not data.endswith(b"\n"):
            part = client.recv(1 << 20)
            if not part:
                break
            data += part
        message = json.loads(data) if data.endswith(b"\n") else {}
        if "kill" in message:
            self.kill(client, message["kill"])
        elif "power" in message:
            self.kill(client, power.processes(os.getpid(), "/proc/.real"))
        elif "command" in message and len(descriptors) == 3:
            self.start(client, message, list(descriptors))
        else:
            client.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def kill(self, client: socket.socket, pids: list) -> None:
        """Crash injection: the tools of a host run unprivileged, so they ask here."""
        client.setblocking(False)
        reply(client, {"killed": len(pids)})
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def start(self, client: socket.socket, message: dict, descriptors: list) -> None:
        refused = self.refused()
        if refused:
            reply(client, {"refused": refused})
            return
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        peer = int.from_bytes(credentials[:4], sys.byteorder)
        known, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(tell)
                os.read(known, 1)  # crash injection finds its way up by the session's file: it must be there first
                self.session(message, descriptors)
            finally:
                os._exit(UNREACHABLE_BY_SIGNAL)
        os.close(known)
        with open(f"/run/sim/live/sessions/{pid}", "w") as file:
            file.write(f"{peer} {self.host['name']}\n")
        os.close(tell)
        self.waiting[pid] = client

    def refused(self) -> str:
        if os.path.exists(f"{self.home}/off"):
            return "No route to host"
        try:
            with open(f"{self.home}/refuse") as file:
                return file.read().strip()
        except FileNotFoundError:
            return ""

    def session(self, message: dict, descriptors: list) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        for target, descriptor in enumerate(os.dup(descriptor) for descriptor in descriptors):
            os.dup2(descriptor, target)
        os.closerange(3, 256)
        uid, gid = (0, 0) if message.get("user") == "root" else (self.host["uid"], self.host["gid"])
        home, name = ("/root", "root") if uid == 0 else ("/var/lib/one", "oneadmin")
        os.setgroups([gid, 6] if uid else [0])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(0o022)
        os.chdir(home)
        environment = {
            "HOME": home, "USER": name, "LOGNAME": name, "SHELL": "/bin/bash", "PWD": home, "PATH": PATHS[uid == 0],
            "SSH_CLIENT": "10.99.0.250 50000 22", "SSH_CONNECTION": "10.99.0.250 50000 10.99.0.1 22", "LANG": "C.UTF-8",
        }  # fmt: skip
        arguments = ["bash", "-c", message["command"]] if message["command"] else ["-bash"]
        os.execve("/bin/bash", arguments, environment)


UNREACHABLE_BY_SIGNAL = 255


def reply(client: socket.socket, answer: dict) -> None:
    with contextlib.suppress(OSError):  # the client may have been killed: nobody waits for the answer
        if answer:
            client.sendall((json.dumps(answer) + "\n").encode())
    client.close()


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def main() -> None:
    spec = json.load(sys.stdin)
    namespace.die_with_parent()
    namespace.unshare(namespace.CLONE_NEWNS)
    namespace.make_private()
    live, sockets = spec["live"], spec["sockets"]
    namespace.mount("dncsim", live, "tmpfs", 0, "mode=755,size=80%,nr_inodes=0")
    for directory in ("hosts", "sessions"):
        os.makedirs(f"{live}/{directory}")
    os.chmod(live, 0o777)
    pids = {}
    for host in spec["hosts"]:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            namespace.die_with_parent()
            os.close(read)
            namespace.build(live, spec["code"], sockets, host)
            server = Server("/run/sim/sock", host)
            os.write(write, b"ready")
            os.close(write)
            for descriptor in (0, 1):
                os.close(descriptor)
            server.serve()
        os.close(write)
        if os.read(read, 5) != b"ready":
            sys.exit(f"simulated host {host['name']} could not be made")
        os.close(read)
        pids[host["name"]] = pid
    print(json.dumps({"base": os.getpid(), "hosts": pids}), flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
