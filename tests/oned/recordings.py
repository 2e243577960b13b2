"""The recordings in tests/data/recorded, and a backend that answers as the recorder did."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict

from lxml import etree

from oned import Call, Completed

DATA = Path(__file__).resolve().parent.parent / "data" / "recorded"
_ADDRESS = {"node1": "127.0.1.1", "node2": "127.0.1.2", "node3": "127.0.1.3", "node4": "127.0.1.3"}
_MAC = re.compile(r"02:00(:[0-9a-f]{2}){4}")


@dataclass
class Recording:
    """One user operation of a running oned."""

    name: str
    set: str
    data: Dict[str, Any] = field(repr=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def key(self) -> tuple[str, int]:
        return self.set, self.data["op"]

    @property
    def injected_sleep(self) -> bool:
        return any("sleep" in one for _, one in self.inject)


def load(kind: str) -> list[Recording]:
    return [Recording(path.stem, kind, json.loads(path.read_text())) for path in sorted((DATA / kind).glob("*.json"))]


def shape_of_argument(text: str) -> str:
    """An argument, with what depends on the moment taken out: addresses, snapshot names, whole messages."""
    if len(text) > 1000:
        return "<message>"
    text = re.sub(r"recsnap-\d+", "recsnap", text)
    text = re.sub(r"^/\S*/vms/(\d+)/context.sh$", r"<vms>/\1/context.sh", text)
    return _MAC.sub("<mac>", text)


def shape(mad: str, action: str, where: str, argv: list[str] | tuple[str, ...], encoding: str,
          stdin: str) -> tuple[Any, ...]:
    """What is compared of a call: order comes from the list it is in."""
    arguments = tuple(map(shape_of_argument, argv)) if action != "stat" else ("<request>",)
    root = re.match(r"<(\w+)>", stdin)
    kind = root.group(1) if root else ("text" if stdin.strip() else "")
    if action == "deploy":
        kind = "deployment file"
    return mad, action, _ADDRESS.get(where, where), arguments, encoding, kind


def recorded_shape(call: Dict[str, Any]) -> tuple[Any, ...]:
    return shape(call["mad"], call["action"], call["where"], call["argv"], call["stdin_encoding"], call["stdin"])


def made_shape(call: Call) -> tuple[Any, ...]:
    return shape(call.mad, call.action, call.where, call.argv, call.stdin_encoding, call.stdin)


def outline(xml: str) -> list[str]:
    """Every element of a document as a path, in order; values are left out."""
    paths: list[str] = []

    def walk(one: Any, above: str) -> None:
        path = f"{above}/{one.tag}"
        paths.append(path)
        for child in one:
            walk(child, path)
    walk(etree.fromstring(xml.strip().encode()), "")
    return paths


class _Stream:
    def __init__(self, backend: AnsweringBackend) -> None:
        self._backend = backend

    def script(self, call: Call) -> Completed:
        return self._backend.local(call)

    def shell(self, command: str, stdin: str) -> Completed:
        return Completed(0)

    def close(self) -> None:
        pass


class AnsweringBackend:
    """Answers each call as the recorder answered the same call of the operation that is replayed."""

    def __init__(self) -> None:
        self._answers: list[Dict[str, Any]] = []

    def expect(self, calls: list[Dict[str, Any]], keep: bool) -> None:
        """The calls of the next operation; answers still owed to a hanging one are kept."""
        if not keep:
            self._answers.clear()
        self._answers += [one for one in calls if not one["injected"]]

    def has_script(self, family: str, driver: str, action: str) -> bool:
        return "." not in action

    def local(self, call: Call) -> Completed:
        for index, one in enumerate(self._answers):
            if (one["mad"], one["action"]) == (call.mad, call.action):
                del self._answers[index]
                return Completed(one["rc"], one["stdout"], one["stderr"])
        return Completed(0, f"one-{call.argv[-2]}" if call.action == "deploy" else "")

    remote = local

    def open_stream(self, host: str, forward: bool) -> _Stream:
        return _Stream(self)

    def stop(self) -> None:
        pass
