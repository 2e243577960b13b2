"""xenstore-watch: argv of the long-lived process that tells of domains. Pure.

It writes a line for each event, the path that was watched, and one for each path when it begins. With a lost
connection it counts on without an event, so the number of events is bounded: then it ends instead of spinning.
"""

from __future__ import annotations

from typing import List

_EVENTS = "1000"


def watch_domains() -> List[str]:
    """Domains that come and go, in any way: created, restored, received, ended."""
    return ["xenstore-watch", "-n", _EVENTS, "@introduceDomain", "@releaseDomain"]


def watch_name(domain_id: int) -> List[str]:
    """One change of a domain's name, as when a migration has arrived; the first event is the beginning."""
    return ["xenstore-watch", "-n", "2", f"/local/domain/{domain_id}/name"]
