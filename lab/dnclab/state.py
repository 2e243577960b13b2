"""What a lab remembers between commands: labs/<name>/state.json."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .cache import cache_dir
from .errors import LabError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,20}")
# Room for a lab's directory in the address of a Unix socket; ssh appends 17 characters while it makes its own.
LONGEST_DIRECTORY = 107 - len("/ssh-node1") - 17


@dataclass
class State:
    """`build` is the hash of the artifacts, `ports` the ssh port of each host that was made."""

    build: str
    hosts: int
    ports: dict[str, int] = field(default_factory=dict)


def lab_dir(name: str) -> Path:
    """Directory of a lab; LabError for a name or place that cannot work."""
    if not NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a lab", "use lower case letters, digits and -, at most 21")
    directory = cache_dir() / "labs" / name
    if len(str(directory)) > LONGEST_DIRECTORY:
        raise LabError(f"{directory} is too long for a socket's address", "set DNC_LAB_DIR to a shorter path")
    return directory


def load(directory: Path) -> State | None:
    """State of a lab, None when it was never up. LabError when the file is damaged."""
    path = directory / "state.json"
    try:
        raw = json.loads(path.read_text())
        return State(str(raw["build"]), int(raw["hosts"]), {str(k): int(v) for k, v in raw["ports"].items()})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LabError(f"{path} is damaged", "run `lab/lab destroy --name " + directory.name + "`") from None


def save(directory: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    temporary = directory / "state.json.new"
    temporary.write_text(json.dumps(asdict(state), indent=1) + "\n")
    os.replace(temporary, directory / "state.json")
