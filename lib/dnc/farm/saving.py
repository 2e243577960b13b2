"""Saving a disk as an image (cpds): a snapshot-clone on the disk's own members, equal by proof, independent of it."""

from __future__ import annotations

from typing import Optional

from ..errors import Busy, NotFound, Unsafe
from ..grammar import ResourceName
from ..tools import drbd
from . import making, snapshots
from .making import Plan
from .sessions import Sessions
from .survey import Located, locate, look_again, refuse_growing, refuse_half_made


class Saving:
    """One saved image. `image` exists already, empty (DS mkfs made it); `label`: the snapshot, None for the disk as
    it is now; `domain`: the VM's, which is frozen for a moment if it runs."""

    def __init__(
        self, farm: Sessions, disk: Located, image: ResourceName, label: Optional[str], domain: Optional[str]
    ) -> None:
        self._farm = farm
        self._disk = disk
        self._image = image
        self._label = label
        self._temporary = f"save-{image.image}"
        self._domain = domain

    def run(self) -> Plan:
        """The image at rest, filled, on the disk's members; the caller commits, then calls `tidy`.

        Raises NotFound (no such snapshot), Busy or Unsafe (disk not in sync, image in use), NoSpace, Unreachable.
        """
        farm, disk = self._farm, self._disk
        refuse_half_made(disk)
        refuse_growing(disk)
        proof = self._earlier_proof()
        # First, since on ZFS the image that a killed run made may still hold the snapshot of that run.
        self._make_room()
        if proof is not None:
            return self._copy(str(self._label), proof)
        snapshots.remove_label(farm, disk, self._temporary)
        return self._copy(
            self._temporary, snapshots.create(farm, disk, self._temporary, self._domain, lasting=False)
        )

    def _earlier_proof(self) -> Optional[str]:
        """Why the snapshot that the user means is equal on all members; None when the disk as it is now is meant."""
        if self._label is None:
            return None
        found = snapshots.known(self._farm, self._disk).get(self._label)
        if found is None:
            raise NotFound(f"{self._disk.name} has no snapshot {self._label}", hint="onevm show lists the snapshots")
        proof = found.proof_on(self._disk.holders)
        if proof is None:
            raise Unsafe(
                f"snapshot {self._label} of {self._disk.name} is not proven on all members",
                hint="revert to it, then save",
            )
        return proof

    def _make_room(self) -> None:
        """Remove the empty volume that mkfs made, wherever it chose to, and what a killed run left on our hosts."""
        farm, ours = self._farm, self._disk.holders
        empty = locate(farm, self._image, ours[0])
        if empty is None:
            for error in farm.unreachable.values():
                raise error
            farm.lock(ours, [self._image.text])
            making.remove(farm, ours, self._image, [self._disk.spec.pool])
            return
        empty.require_all(farm)
        hosts = tuple(dict.fromkeys(empty.hosts + ours))
        farm.lock(hosts, [self._image.text])
        empty = look_again(farm, empty)
        used = [host for host, found in empty.found.items() if found.up or (found.spec and found.spec.vm is not None)]
        if used and empty.spec.state == "ready":
            raise Busy(f"image {self._image} is in use on {' '.join(used)}", hint="it should be empty and at rest")
        making.remove(farm, hosts, self._image, [empty.spec.pool, self._disk.spec.pool])

    def _copy(self, label: str, proof: str) -> Plan:
        farm, source = self._farm, self._disk.spec
        plan = Plan(self._image, self._disk.holders, source.pool, source.data_bytes)
        replicated = source.replicated
        day0 = making.require_dialect(farm, plan.hosts).new_day0()
        minor = making.reserve_minor(farm, plan.hosts, plan.name) if replicated else None
        volumes = farm.all(
            "clone_volume", plan.hosts, pool=plan.pool, origin=source.name, name=plan.name.text, snapshot=label,
            bytes=drbd.volume_size(plan.data_bytes, source.slots), tags=plan.tags,
        )
        node_ids = [member.node_id for member in source.replicas]
        spec = making.new_spec(farm, plan, minor, source.slots, volumes, node_ids=node_ids, day0=day0)
        farm.all("write_resource", plan.hosts, spec=spec.to_json())
        if replicated:
            farm.all("create_metadata", plan.hosts, resource=spec.name)
            making.zero_old_metadata(farm, plan.hosts, spec, volumes, source.slots)
            making.bring_up(farm, plan.hosts, spec)
            making.declare_equal(farm, plan, spec, proof)
            making.await_ready(farm, plan.hosts, spec)
            making.take_down(farm, plan.hosts, plan.name)
        making.finish(farm, plan.hosts, spec._replace(proof=proof))
        return plan

    def tidy(self) -> None:
        """After the commit: the snapshot that was only taken for the image goes. A failure is told only."""
        if self._label is not None:
            return
        request = {"resource": self._disk.name.text, "snapshot": self._temporary}
        _answers, errors = self._farm.try_each("remove_snapshot", dict.fromkeys(self._disk.holders, request))
        for error in errors.values():
            self._farm.log.warn(error.line())
