"""Sessions with a simulated host: the ssh and scp commands, and the message exchange with the host's server.

A client sends one JSON line with its three standard descriptors; the server
answers with one JSON line when the command has ended.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys

OPTIONS_WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
UNREACHABLE = 255
KEY_CHANGED = (
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
    "Someone could be eavesdropping on you right now (man-in-the-middle attack)!\r\n"
    "It is also possible that a host key has just been changed.\r\n"
    "Host key for {host} has changed and you have requested strict checking.\r\n"
    "Host key verification failed.\r\n"
)


def hosts(sockets: str) -> dict:
    """Names and addresses under which hosts are known -> host name."""
    with open(f"{sockets}/hosts.json") as file:
        return json.load(file)


def exchange(path: str, message: dict, descriptors: tuple = ()) -> dict:
    """Send one message, wait for the answer; {} where the server went away."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(path)
        data = (json.dumps(message) + "\n").encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        sent = server.sendmsg([data], rights)
        if sent < len(data):
            server.sendall(data[sent:])
        answer = b""
        while not answer.endswith(b"\n"):
            part = server.recv(65536)
            if not part:
                return {}
            answer += part
    return json.loads(answer)


def run(sockets: str, destination: str, command: str, descriptors: tuple, user: str = "") -> tuple:
    """Run a command line on a host as sshd would -> (exit status, text for stderr)."""
    known = hosts(sockets)
    if destination not in known:
        return UNREACHABLE, f"ssh: Could not resolve hostname {destination}: Name or service not known\r\n"
    host = known[destination]
    try:
        answer = exchange(f"{sockets}/{host}", {"command": command, "user": user}, descriptors)
    except OSError:
        return UNREACHABLE, f"ssh: connect to host {destination} port 22: Connection refused\r\n"
    if "refused" in answer:
        return UNREACHABLE, refusal(answer["refused"], destination)
    if "status" not in answer:
        return UNREACHABLE, f"Connection to {destination} closed by remote host.\r\n"
    return answer["status"], ""


def refusal(reason: str, destination: str) -> str:
    if reason == "key":
        return KEY_CHANGED.format(host=destination)
    if reason == "denied":
        return f"oneadmin@{destination}: Permission denied (publickey,password).\r\n"
    return f"ssh: connect to host {destination} port 22: {reason}\r\n"


def parse(arguments: list) -> tuple:
    """ssh's argv -> (options as (letter, value) pairs, destination, words of the command)."""
    options, destination, words = [], "", list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            if not destination and words:
                destination = words.pop(0)
            break
        if not word.startswith("-") or word == "-":
            if destination:
                words.insert(0, word)
                break
            destination = word
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in OPTIONS_WITH_VALUE:
                options.append((letter, letters or (words.pop(0) if words else "")))
                break
            options.append((letter, ""))
    return options, destination, words


def ssh_main(sockets: str) -> None:
    with open("/proc/self/comm", "w") as file:
        file.write("sim-ssh")
    options, destination, words = parse(sys.argv[1:])
    letters = dict(options)
    if "O" in letters or "Q" in letters:
        sys.exit(UNREACHABLE)
    if "V" in letters:
        sys.stderr.write("OpenSSH_9.2p1 simulated\n")
        sys.exit(0)
    if not destination:
        sys.stderr.write("usage: ssh [options] destination [command [argument ...]]\n")
        sys.exit(UNREACHABLE)
    user, _, name = destination.rpartition("@")
    stdin = os.open("/dev/null", os.O_RDONLY) if "n" in letters else 0
    if not user and sockets == "/run/sim/sock" and os.geteuid() == 0:
        user = "root"  # from host to host under one's own name; the frontend's is always oneadmin
    status, text = run(sockets, name, " ".join(words), (stdin, 1, 2), letters.get("l", user))
    if text and "q" not in letters:
        sys.stderr.write(text)
        sys.stderr.flush()
    os._exit(status)


def scp_main(sockets: str) -> None:
    """scp of files between a host and here: cat over a session in either direction."""
    words = [word for word in sys.argv[1:] if not word.startswith("-") or word == "-"]
    values = [
        sys.argv[i + 1]
        for i, word in enumerate(sys.argv[:-1])
        if word in ("-o", "-i", "-P", "-F", "-S", "-l", "-c", "-J")
    ]
    words = [word for word in words if word not in values]
    *sources, target = words
    for source in sources:
        host, colon, path = target.partition(":")
        if colon:
            into = f"if [ -d '{path}' ]; then cat > '{path}/{os.path.basename(source)}'; else cat > '{path}'; fi"
            with open(source, "rb") as file:
                status, text = run(sockets, host.rpartition("@")[2], into, (file.fileno(), 1, 2))
        else:
            host, _, path = source.partition(":")
            name = os.path.join(target, os.path.basename(path)) if os.path.isdir(target) else target
            with open(name, "wb") as file:
                status, text = run(sockets, host.rpartition("@")[2], f"cat '{path}'", (0, file.fileno(), 2))
        if status:
            sys.stderr.write(text)
            os._exit(status if status == UNREACHABLE else 1)
    os._exit(0)
