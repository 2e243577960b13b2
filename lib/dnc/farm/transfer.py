"""A replica at rest carried to another host, byte for byte, DRBD's metadata too, and proven equal by checksums."""

from __future__ import annotations

import time
from typing import Iterator, List, Tuple

from ..errors import NoSpace, Unsafe
from ..grammar import MIB, ResourceName, parse_pool
from .importer import FRAME, Piece, Progress, runs, send
from .session import Answer, Session
from .sessions import Sessions
from .survey import Located, survey

# Reads under way at a time: the next is being read while one is sent on.
_AHEAD = 4
# Who waits for the lock can read in these intervals how far it is, seconds.
_DESCRIBE_S = 5.0


def require_room(farm: Sessions, located: Located, host: str, size: int, hint: str) -> None:
    """Raise NoSpace unless the whole volume (bytes) fits below the limit: while it is written nobody looks again."""
    pool = parse_pool(located.spec.pool)
    answer = survey(farm, [host], [located.name], [pool])[host]
    space, before = answer.pools[str(pool)], answer.of(located.name).volume
    wanted = size - (before.bytes if before is not None else 0)
    if space.usable(farm.config.pool_fill_limit) < wanted:
        raise NoSpace(
            f"pool {pool} has no room for a copy of {located.name}, {size // MIB} MiB", host=host,
            hint=f"{hint}, or free space below POOL_FILL_LIMIT",
        )


def create_volume(farm: Sessions, located: Located, host: str, size: int) -> str:
    """The device of a new volume for the resource, in the place of an old one. Raises NoSpace, Conflict, Busy."""
    spec, name = located.spec, located.name.text
    tags: Answer = {"kind": spec.kind}
    if spec.kind != "image":
        tags.update({key: value for key, value in (("vm", spec.vm), ("origin", spec.origin)) if value is not None})
    answer = farm.call(host, "create_volume", pool=spec.pool, name=name, bytes=size, tags=tags)
    if int(answer["bytes"]) != size:
        raise Unsafe(f"{name} has {size} bytes, its copy on {host} {answer['bytes']}", hint="use equal extent sizes")
    return str(answer["device"])


def carry(farm: Sessions, name: ResourceName, source: str, host: str, size: int) -> None:
    """All bytes of the volume on `source` into the one on `host`, where the resource's file names just that volume.

    Raises Unsafe when both differ after that, or the source changed its size.
    """
    pieces = _pieces(farm, host, source, name, size)
    send(farm.sessions[host], name.text, pieces, Progress(farm.log, f"{name} to {host}", size))
    _prove(farm, name.text, source, host)


def _pieces(farm: Sessions, host: str, source: str, name: ResourceName, size: int) -> Iterator[Piece]:
    """The source's volume in order, zeros left out; who waits is told how far it is."""
    reader: Session = farm.sessions[source]
    offsets = iter(range(0, size, FRAME))
    asked: List[Tuple[int, int]] = []
    told = 0.0
    while True:
        while len(asked) < _AHEAD:
            offset = next(offsets, None)
            if offset is None:
                break
            request = {"resource": name.text, "offset": offset, "length": min(FRAME, size - offset)}
            asked.append((offset, reader.send("read_volume", request)))
        if not asked:
            return
        offset, number = asked.pop(0)
        answer = reader.receive(number)
        length = int(answer["length"])
        if length != min(FRAME, size - offset):
            raise Unsafe(f"{name} ends at byte {offset + length} on {source}", hint="its volume changed size")
        if time.monotonic() - told > _DESCRIBE_S:
            told = time.monotonic()
            text = f"the copy from {source}, {100 * offset // size} % done"
            farm.call(host, "describe_lock", resource=name.text, text=text)
        data = bytes(length) if answer.get("zeros") else reader.take_raw(length)
        yield from runs(data, offset)


def _prove(farm: Sessions, name: str, source: str, host: str) -> None:
    """Both volumes read again, all of them: the same bytes, or no copy."""
    answers = farm.each(
        "digest", {one: {"resource": name, "whole": True} for one in (source, host)},
        timeout=float(farm.config.sync_timeout),
    )
    if answers[source] != answers[host]:
        raise Unsafe(f"the copy of {name} on {host} differs from {source}", hint="look at both hosts' disks: dmesg")
    farm.log.info(f"{name}: the copy on {host} is equal, sha256 {answers[host]['sha256'][:16]}...")
