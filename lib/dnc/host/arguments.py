"""Arguments of the agent's operations, checked where they enter: types, grammar, nothing unknown, nothing missing."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Tuple

from ..errors import BadInput
from ..grammar import PoolSpec, parse_domain, parse_host, parse_path, parse_pool, parse_resource, parse_snapshot, shown
from ..tools.drbd import ResourceSpec, parse_spec

Parser = Callable[[Any], Any]
FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "swap")
# A frame of raw data; more would only cost memory.
RAW_LIMIT = 64 << 20


def text(value: Any) -> str:
    """A string on one line."""
    if not isinstance(value, str) or len(value) > 4096 or any(ord(char) < 32 for char in value):
        raise BadInput("is not a line of text")
    return value


def resource(value: Any) -> str:
    """A resource name, in its one spelling."""
    return parse_resource(text(value)).text


def snapshot(value: Any) -> str:
    """A snapshot of a disk."""
    return parse_snapshot(text(value))


def snapshots(value: Any) -> List[str]:
    """A list of snapshots of a disk."""
    return [snapshot(item) for item in _list(value)]


def domain(value: Any) -> str:
    """A Xen domain of OpenNebula."""
    return f"one-{parse_domain(text(value))}"


def resources(value: Any) -> List[str]:
    """A list of resource names."""
    return [resource(item) for item in _list(value)]


def hosts(value: Any) -> List[str]:
    """A list of host names."""
    return [parse_host(text(item)) for item in _list(value)]


def host(value: Any) -> str:
    """A host name."""
    return parse_host(text(value))


def pool(value: Any) -> PoolSpec:
    """A pool."""
    return parse_pool(text(value))


def pools(value: Any) -> List[PoolSpec]:
    """A list of pools."""
    return [pool(item) for item in _list(value)]


def path(value: Any) -> str:
    """A clean absolute path."""
    return parse_path(text(value))


def number(value: Any) -> int:
    """A whole number, not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise BadInput("is not a number")
    return value


def raw_length(value: Any) -> int:
    """Length of a frame of raw data."""
    if number(value) > RAW_LIMIT:
        raise BadInput(f"is more than {RAW_LIMIT} bytes")
    return int(value)


def seconds(value: Any) -> float:
    """A time or a duration."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise BadInput("is not a time in seconds")
    return float(value)


def flag(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise BadInput("is not true or false")
    return value


def tags(value: Any) -> Dict[str, str]:
    """What is recorded with a volume."""
    if not isinstance(value, dict) or not set(value) <= {"kind", "vm", "origin"}:
        raise BadInput("takes kind, vm and origin")
    found = {key: str(item) for key, item in value.items() if item is not None}
    if any(not item.replace("-", "").isalnum() for item in found.values()):
        raise BadInput("takes words and numbers")
    return found


def filesystem(value: Any) -> str:
    """A kind of file system, or swap."""
    if value not in FILESYSTEMS:
        raise BadInput("is none of " + " ".join(FILESYSTEMS))
    return str(value)


def proof(value: Any) -> str:
    """Why replicas are known to be equal."""
    if not 1 <= len(text(value)) <= 120 or not all(char.isalnum() or char in ":._-" for char in value):
        raise BadInput("is not a proof")
    return str(value)


def spec(value: Any) -> ResourceSpec:
    """SPEC."""
    if not isinstance(value, dict):
        raise BadInput("is not a resource")
    try:
        return parse_spec(value)
    except (KeyError, TypeError) as error:
        raise BadInput(f"is not a resource: {error}") from None


def record(value: Any) -> Dict[str, Any]:
    """Any JSON object."""
    if not isinstance(value, dict):
        raise BadInput("is not a record")
    return value


def _list(value: Any) -> List[Any]:
    if not isinstance(value, list) or len(value) > 100_000:
        raise BadInput("is not a list")
    return value


def parse(op: str, shape: Mapping[str, Tuple[Parser, bool]], args: Mapping[str, Any]) -> Dict[str, Any]:
    """Values for an operation's keywords; shape: name -> (parser, may be left out). Raises BadInput."""
    unknown = sorted(set(args) - set(shape))
    if unknown:
        raise BadInput(f"{op} has no argument {shown(unknown[0])}")
    values: Dict[str, Any] = {}
    for name, (parser, optional) in shape.items():
        if args.get(name) is None:
            if not optional:
                raise BadInput(f"{op} needs {name}")
            continue
        try:
            values[name] = parser(args[name])
        except BadInput as error:
            raise BadInput(f"{op}: {name} {shown(str(args[name]))}: {error.what}", hint=error.hint) from None
    return values
