"""xenstore-watch: lines for domains that come and go and for changes of a domain's name, as long as somebody reads."""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time

from sim.fake import is_privileged
from sim.world import World

_NAME = re.compile(r"/local/domain/(\d+)/name$")


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    """Every watch fires once when it begins; ends after -n events, or when nobody reads any more."""
    if not is_privileged():
        return 1, "", "xenstore-watch: xs_open: Permission denied\n"
    left, paths = int(argv[argv.index("-n") + 1]), [word for word in argv if word.startswith(("@", "/"))]
    seen = _look(world)
    events, changed = list(paths), 0
    while True:
        for event in events[:left]:
            os.write(1, f"{event}\n".encode())
        left -= len(events[:left])
        if left <= 0:
            return 0, "", ""
        changed = _await_change(world, changed)
        now = _look(world)
        events = [path for path in paths if _fires(path, seen, now)]
        seen = now


def _look(world: World) -> dict[str, str]:
    """Names of this host's domains by number; the file is replaced whole, so no lock is needed."""
    with open(f"{world.live}/state.json") as file:
        domains = json.load(file)["hosts"][world.host]["xen"]["domains"]
    return {number: domain["name"] for number, domain in domains.items()}


def _fires(path: str, before: dict[str, str], now: dict[str, str]) -> bool:
    if path == "@introduceDomain":
        return bool(set(now) - set(before))
    if path == "@releaseDomain":
        return bool(set(before) - set(now))
    found = _NAME.match(path)
    return bool(found) and before.get(found[1]) != now.get(found[1])


def _await_change(world: World, changed: int) -> int:
    """Until the farm's state is another one; exits when the reader is gone."""
    reader = select.poll()
    reader.register(1, 0)
    while True:
        if reader.poll(0):
            sys.exit(141)
        found = os.stat(f"{world.live}/state.json").st_mtime_ns
        if found != changed:
            return found
        time.sleep(0.05)
