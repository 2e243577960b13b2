"""Whether a running guest may go on under another host's hypervisor: found out before anything is prepared for it."""

from __future__ import annotations

from ..errors import Unsafe
from ..tools.cpu_features import lacking
from .session import Answer
from .sessions import Sessions

_SHOWN = 6


def require_fit(farm: Sessions, domain: str, source: str, destination: str) -> None:
    """Raise Unsafe where the destination's CPU lacks what the guest may be using.

    A guest whose configuration hides features from it may use none of these: there Xen decides, which compares the
    guest's own policy when it arrives and lets it stay where it was.
    """
    answers = farm.all("hypervisor", (source, destination))
    here, there = answers[source], answers[destination]
    missing = lacking(here.get("features", ()), there.get("features", ()))
    if missing and not farm.call(source, "cpu_masked", name=domain)["masked"]:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise Unsafe(
            f"{destination}'s CPU lacks {' '.join(missing[:_SHOWN])}{more}, which {domain} may use",
            hint=f"migrate it cold, or start Xen on {source} with these features hidden (cpuid=no-...)",
        )
    if missing:
        farm.log.warn(f"{destination} lacks {' '.join(missing)}; {domain} is shown a part of the CPU: Xen decides")
    if there.get("version", ()) < here.get("version", ()):
        farm.log.warn(f"{domain} goes to an older Xen: {source} {_text(here)}, {destination} {_text(there)}")


def _text(answer: Answer) -> str:
    return ".".join(str(number) for number in answer.get("version", ()))
