"""Operations on domains and their hypervisor; operations.py says what each takes and answers."""

from __future__ import annotations

from typing import Callable, Dict

from ..tools.xl import INCOMING, MIGRATED_AWAY, Domain, DomainState
from . import arguments as a
from .handover import see
from .work import Operation, Reply, Work, offer


def find_domain(work: Work, name: str) -> Reply:
    """Whether a domain is here, and its state; and what a migration has left of it."""
    sight = see(work.host.domains.list(), name)
    return {
        "state": sight.plain.state.value if sight.plain else None,
        "incoming": sight.incoming is not None, "away": sight.away is not None,
    }


def destroy_domain(work: Work, name: str) -> Reply:
    """End a domain at once."""
    present = work.host.domains.find(name) is not None
    if present:
        work.host.domains.destroy(name)
    return {"destroyed": present}


def clear_shell(work: Work, name: str) -> Reply:
    """End what came here of a migration that broke off: an empty shell, which has never run."""
    return {"cleared": _clear(work, name + INCOMING, lambda half: half.cpu_seconds == 0.0)}


def clear_departed(work: Work, name: str) -> Reply:
    """End what stayed here of a domain that runs on another host, unless it runs."""
    still = (DomainState.PAUSED, DomainState.SHUTDOWN)
    return {"cleared": _clear(work, name + MIGRATED_AWAY, lambda half: half.state in still)}


def _clear(work: Work, half: str, fit: Callable[[Domain], bool]) -> bool:
    found = work.host.domains.find(half)
    if found is None or not fit(found):
        return False
    work.host.log.info(f"{half}: removing what a migration has left")
    work.host.domains.destroy(half)
    return True


def take_back(work: Work, name: str) -> Reply:
    """The half that stayed is all there is of the domain: it gets its name back and goes on."""
    work.host.log.info(f"{name}: only the half that stayed is left: it goes on here")
    work.host.domains.rename(name + MIGRATED_AWAY, name)
    work.host.domains.resume_suspended(name)
    return None


def hypervisor(work: Work) -> Reply:
    """What a guest of this host finds."""
    found = work.host.domains.hypervisor()
    return {"version": list(found.version), "features": list(found.features)}


def cpu_masked(work: Work, name: str) -> Reply:
    """Whether the domain's configuration shows it less of the CPU."""
    details = work.host.domains.details(name)
    return {"masked": details is not None and details.cpu_masked}


OPERATIONS: Dict[str, Operation] = {
    "find_domain": offer(find_domain, name=a.text),
    "destroy_domain": offer(destroy_domain, name=a.text),
    "clear_shell": offer(clear_shell, name=a.domain),
    "clear_departed": offer(clear_departed, name=a.domain),
    "take_back": offer(take_back, name=a.domain),
    "hypervisor": offer(hypervisor),
    "cpu_masked": offer(cpu_masked, name=a.domain),
}
