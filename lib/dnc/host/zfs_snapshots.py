"""Snapshots of zvols as a tree that survives reverting.

`zfs rollback` destroys what is younger. So a revert clones the snapshot as `<name>.next`, which takes the volume's
name; the former head becomes `<name>.old` until all members have done so, and then goes, or stays as
`<name>.branch-<n>` while it carries younger snapshots. A snapshot of disk X is called X.snap-<id>, so that names stay
unique wherever `zfs promote` moves them. Every step can be killed and repeated: `settle` brings order.
"""

from __future__ import annotations

import os
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import BadInput, Busy, NotFound, ToolFailed
from ..grammar import ResourceKind, parse_resource
from ..tools import zfs
from .pools import NEXT, OLD, RELEASE_TIMEOUT_S, Snapshot, Surroundings

_BRANCH = ".branch-"
# What VMs' disks still hang on of a removed image: gone-<image>-<number>, a name that no disk has.
_TOMB = "gone-"
# Each turn of a loop below removes or renames one thing; nothing has so many.
_TURNS = 10_000


class Tree(NamedTuple):
    """All zvols of the pool by dataset name, and their snapshots, oldest first."""

    zvols: Dict[str, zfs.Zvol]
    snapshots: List[zfs.Snapshot]

    def family(self, head: str) -> Tuple[str, ...]:
        """The volume and what carries its snapshots or was left by an interrupted revert."""
        return tuple(name for name in self.zvols if name == head or name.startswith(head + "."))

    def of(self, dataset: str) -> List[zfs.Snapshot]:
        """The snapshots that a dataset carries, oldest first."""
        return [one for one in self.snapshots if one.dataset == dataset]

    def clones(self, snapshot: zfs.Snapshot) -> Tuple[str, ...]:
        """The datasets that hang on a snapshot."""
        return tuple(zvol.dataset for zvol in self.zvols.values() if zvol.origin == snapshot.full)


class ZfsSnapshots:
    """Snapshots of the zvols right below one dataset. destroy: removes a zvol with snapshots that have no clones."""

    def __init__(self, dataset: str, around: Surroundings, destroy: Callable[[str], object]) -> None:
        self._parent = dataset
        self._around = around
        self._destroy = destroy

    def _dataset(self, name: str) -> str:
        return f"{self._parent}/{name}"

    def _short(self, dataset: str) -> str:
        return dataset.rpartition("/")[2]

    def _change(self, argv: Sequence[str], name: str) -> None:
        try:
            self._around.runner.run(argv, privileged=True)
        except ToolFailed as error:
            raise zfs.explain(error, name) from None

    def _insist(self, argv: Sequence[str], name: str) -> None:
        """udev looks into a fresh device for moments."""
        self._around.patience.insist(lambda: self._change(argv, name), Busy, timeout=RELEASE_TIMEOUT_S)

    def tree(self) -> Tree:
        """The pool as it is now."""
        try:
            text = self._around.runner.run(zfs.tree(self._parent), changes=False).stdout
        except ToolFailed as error:
            raise zfs.explain(error, self._parent) from None
        return Tree(*zfs.parse_tree(text))

    def list(self, name: str) -> Dict[str, Snapshot]:
        """See Snapshots. A removed one that clones still need is not told."""
        return {
            label: Snapshot(one.bytes, one.used, one.tags.get("proof")) for label, one in self._mine(name).items()
            if not one.deferred
        }

    def _mine(self, name: str) -> Dict[str, zfs.Snapshot]:
        tree, start = self.tree(), _snapshot_name(name, "")
        family = tree.family(self._dataset(name))
        return {
            one.name[len(start):]: one for one in tree.snapshots
            if one.dataset in family and one.name.startswith(start)
        }

    def create(self, name: str, label: str) -> None:
        """See Snapshots."""
        self._change(zfs.snapshot(self._dataset(name), _snapshot_name(name, label)), f"snapshot {label} of {name}")

    def record_proof(self, name: str, label: str, proof: str) -> None:
        """See Snapshots."""
        full = f"{self._dataset(name)}@{_snapshot_name(name, label)}"
        self._change(zfs.set_tags(full, {"proof": proof}), f"snapshot {label} of {name}")

    def remove(self, name: str, label: str) -> bool:
        """See Snapshots. One that was the origin of others goes with the last of them."""
        found = self._mine(name).get(label)
        if found is None or found.deferred:
            return False
        self._insist(zfs.destroy_snapshot(found.dataset, found.name, deferred=True), f"snapshot {label} of {name}")
        if found.dataset != self._dataset(name):
            self.settle(name)
        return True

    def clone(self, name: str, label: str, target: str, tags: Mapping[str, str]) -> int:
        """See Snapshots."""
        found = self._mine(name).get(label)
        if found is None or found.deferred:
            raise NotFound(f"{name} has no snapshot {label} here")
        self._change(zfs.clone(found.dataset, found.name, self._dataset(target), tags), target)
        return found.bytes

    # -- reverting -----------------------------------------------------------------------------------------------

    def swap(self, name: str) -> None:
        """See Snapshots."""
        head = self._dataset(name)
        self._insist(zfs.rename(head, head + OLD), name)
        self._insist(zfs.rename(head + NEXT, head), name)

    def swap_back(self, name: str) -> None:
        """See Snapshots."""
        head, zvols = self._dataset(name), self.tree().zvols
        if head + OLD not in zvols:
            return
        if head in zvols:
            self._insist(zfs.rename(head, head + NEXT), name)
        self._insist(zfs.rename(head + OLD, head), name)

    def discard(self, name: str, suffix: str = NEXT) -> None:
        """See Snapshots."""
        self._destroy(name + suffix)

    def settle(self, name: str) -> None:
        """See Snapshots. Afterwards the head owns the snapshots it descends from, and branches the others."""
        for _ in range(_TURNS):
            if not self._settle_one(name, self.tree()):
                return

    def _settle_one(self, name: str, tree: Tree) -> bool:
        """One step towards order; False when there is nothing left to do."""
        head = self._dataset(name)
        family = [one for one in tree.family(head) if one != head]
        if not family:
            return False
        if head not in tree.zvols:
            if head + OLD not in family:
                return False
            self._insist(zfs.rename(head + OLD, head), name)
        elif head + NEXT in family:
            self._destroy(name + NEXT)
        elif (tree.zvols[head].origin or "").partition("@")[0] in family:
            self._change(zfs.promote(head), name)
        else:
            return self._settle_branch(name, tree, family)
        return True

    def _settle_branch(self, name: str, tree: Tree, family: Sequence[str]) -> bool:
        for one in family:
            if not tree.of(one):
                self._destroy(self._short(one))
                return True
        old = self._dataset(name) + OLD
        if old not in family:
            return False
        # What was written after its last snapshot is nobody's any more, and would only take room.
        self._insist(zfs.rollback(tree.of(old)[-1].full), name)
        number = next(n for n in range(1, _TURNS) if f"{self._dataset(name)}{_BRANCH}{n}" not in family)
        self._insist(zfs.rename(old, f"{self._dataset(name)}{_BRANCH}{number}"), name)
        return False

    # -- removal -------------------------------------------------------------------------------------------------

    def needed_by(self, name: str) -> Tuple[str, ...]:
        """Volumes of others that hang on this one and can't take over."""
        return tuple(clone for clone in self._foreign(name, self.tree()) if not _takes_over(clone))

    def _foreign(self, name: str, tree: Tree) -> Tuple[str, ...]:
        family = tree.family(self._dataset(name))
        return tuple(
            self._short(zvol.dataset) for zvol in tree.zvols.values()
            if zvol.dataset not in family and (zvol.origin or "").partition("@")[0] in family
        )

    def dismantle(self, name: str) -> bool:
        """Remove a volume, its snapshots and all that carries them; images cloned from it take over what they share.

        What VMs' disks still hang on is buried: it waits under a name that is no disk's until the last of them goes.
        False when there was nothing. Raises Busy: held open. Every step can be killed and repeated.
        """
        tree = self.tree()
        family = tree.family(self._dataset(name))
        if not family:
            return False
        outer = {zvol.origin for one in family for zvol in (tree.zvols[one],) if zvol.origin}
        if len(family) > 1 or self._foreign(name, tree):
            self._loosen(name, tree, family)
            tree = self.tree()
        for _ in range(_TURNS):
            leaf = self._leaf(name, tree)
            if leaf is None:
                break
            self._destroy(self._short(leaf))
            tree = self.tree() if len(family) > 1 else Tree({}, [])
        for left in tree.family(self._dataset(name)):
            self._insist(zfs.rename(left, self._dataset(f"{_TOMB}{name}-{os.urandom(4).hex()}")), name)
        for origin in outer:
            if origin.partition("@")[0] not in family and not self.remove_origin(origin):
                self._sweep_tombs()
        return True

    def _loosen(self, name: str, tree: Tree, family: Sequence[str]) -> None:
        """Snapshots go with their last clone, and whoever can take over stands on its own feet."""
        for snapshot in tree.snapshots:
            if snapshot.dataset in family and not snapshot.deferred:
                self._change(zfs.destroy_snapshot(snapshot.dataset, snapshot.name, deferred=True), name)
        for _ in range(_TURNS):
            heirs = [clone for clone in self._foreign(name, self.tree()) if _takes_over(clone)]
            if not heirs:
                return
            self._change(zfs.promote(self._dataset(heirs[0])), heirs[0])

    def _leaf(self, name: str, tree: Tree) -> Optional[str]:
        family = tree.family(self._dataset(name))
        return next((one for one in family if not any(tree.clones(snapshot) for snapshot in tree.of(one))), None)

    def remove_origin(self, origin: str) -> bool:
        """Remove the snapshot that cloning left behind; False if it is not there, or needed by another volume."""
        dataset, _, short = origin.partition("@")
        try:
            parse_resource(short)
        except BadInput:
            return False  # a snapshot in its own right
        try:
            self._change(zfs.destroy_snapshot(dataset, short), f"{self._short(dataset)}@{short}")
        except (NotFound, Busy):
            return False
        except ToolFailed as error:
            # zfs's words for a missing snapshot differ from those for a missing dataset.
            if "could not find any snapshots" not in error.stderr:
                raise
            return False
        return True

    def sweep(self, name: str) -> None:
        """What an interrupted revert of a volume, a revert of its origin, or the origin's removal left for now."""
        self.dismantle(name)
        tree = self.tree()
        for snapshot in tree.snapshots:
            if snapshot.name == name and not tree.clones(snapshot):
                self.remove_origin(snapshot.full)
                self.settle(self._short(snapshot.dataset).partition(".")[0])
        self._sweep_tombs()

    def _sweep_tombs(self) -> None:
        """Remove the buried volumes that nothing needs any more; one may have needed another."""
        for _ in range(_TURNS):
            tree = self.tree()
            needed = {(zvol.origin or "").partition("@")[0] for zvol in tree.zvols.values()}
            idle = [one for one in tree.zvols if self._short(one).startswith(_TOMB) and one not in needed]
            try:
                for one in idle:
                    self._destroy(self._short(one))
                    self.remove_origin(tree.zvols[one].origin or "")
            except Busy:
                return  # udev looks into it: the next sweep has it
            if not idle:
                return


def _snapshot_name(name: str, label: str) -> str:
    return f"{name}.snap-{label}"


def _takes_over(name: str) -> bool:
    """Whether a volume that hangs on another one may own what they share: an image, or one that is buried itself."""
    if name.startswith(_TOMB):
        return True
    try:
        return parse_resource(name).kind is ResourceKind.IMAGE
    except BadInput:
        return False
