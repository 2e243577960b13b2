"""The closed set of operations that a host offers to the frontend, one JSON object a line.

Request   {"id": 1, "op": "lock", "args": {...}}
Answer    {"id": 1, "ok": {...}} or {"id": 1, "error": {DncError}}; in front of it any number of
          {"log": {"level": "INFO", "text": "..."}} lines. The first request must be `hello`.
A session ends at EOF, SIGTERM or SIGHUP: whatever was not committed is rolled back, newest first. Exit status of the
agent: 0, or 1 if a roll-back step failed (the rest is left for the next run).

Types: R = resource name (one-1, one-1-42-0, one-sys-42-1), POOL = "zfs:tank/dnc" or "lvm:vg0/pool", PATH = absolute
path below the datastore location or /var/lib/dnc, bytes and offsets in bytes, times in seconds since the epoch,
LABEL = a snapshot: OpenNebula's number, save-<image>, backup or backup-<increment>;
timeouts in seconds. An argument marked ? may be left out or null. Unknown operations, unknown or missing arguments
and wrong types are BadInput. Operations marked * work under the resource's exclusive lock and take it (LOCK_TIMEOUT)
if the session does not hold it yet.

  hello {version, dry_run, config, started, action?, debug?}
        -> {host, address|null, version, drbd: "8.4"|"9"|null, slots, now}
        host = `uname -n`; address = this host's in REPLICATION_NETWORK; slots: for tools.drbd.volume_size(data, slots).
        Another version: {host, version} only, and nothing else is served.
  survey {resources: [R]|null, pools: [POOL]?, vm_directory: PATH?, promises: bool?}    null = all that have a file here
        -> {resources: {R: {spec: SPEC|null, volume: {pool, name, bytes, device}|null, status: STATUS|null,
                            given_up: {frontend, host}|null, intent: {vm, source, destination, since}|null,
                            unfinished: {hosts, since}|null, copies: {host: current}|null,
                            content: {path, mtime_ns, size}|null, growing: bool, strays: [host]}},
            pools: {POOL: {total, used, free, fill (percent, metadata counted), volumes (dnc's on this host),
                    promised: bytes of all its volumes|null}},      promised: only if asked for by `promises`
            minors: [taken here], links: {"disk.0": "/dev/drbd/by-res/R/0"}}
        growing: a growth of the disk was begun and is not finished; strays: see note_strays
        volume tells what can be seen without a process: null may also mean a volume that is not active
  lock {resources: [R], shared: [R]?, timeout_s?, ignore_given_up?} -> {}    until the session ends; Busy, GivenUp.
        shared: must not change meanwhile (an image being cloned)
  reserve_minor {resource, minor} -> {reserved: bool}            * false = taken, try the next
  release_minor {resource, minor?} -> {}           all of its reservations, or one

  create_volume {pool, name: R, bytes, tags: {kind, vm?, origin?}} -> {bytes, device}           * reads as zeros
  clone_volume {pool, origin: R, name: R, bytes?: grow to, tags, snapshot?: LABEL}
        -> {bytes, origin_bytes, device, grown: bool}    * of the origin as it is, or of its snapshot;
        takes the origin's shared lock if the session has none.
        Both: a half-made left-over of that name (resource absent or "making") is removed first; Conflict, NoSpace
  ensure_volume_size {pool, name: R, bytes} -> {bytes}           * grows, never shrinks
  remove_volume {pool, name: R} -> {removed: bool}               * absent is success; what clones need of it goes
        with the last of them

  snapshots {resource, room?: bool} -> {snapshots: {LABEL: {bytes, used|null, proof|null}}}   room: NoSpace when full
  create_snapshot {resource, snapshot: LABEL} -> {}              * one command, guests may wait for it
  prove_snapshot {resource, snapshot, proof} -> {}               * all members have it and are equal, see barrier
  remove_snapshot {resource, snapshot} -> {removed: bool}        * also one with children; absent is success
  freeze {resources: [R], domain?, pause?: bool, degraded?: bool} -> {}     * on the Primary: nobody writes until
        `thaw`, or the session's end, or 60 s; Unsafe unless all is Primary here and in sync. pause: the domain stands
        still in any case; degraded: members may be missing
  thaw {} -> {seconds, intact: bool}               intact: no write and no member was missed from freeze to here
  prepare_revert {resource, snapshot} -> {bytes, snapshot_bytes}   * builds the volume to be, beside the present one
  swap_volume {resource} -> {}                     * it takes the name; resource down, its state making, proof revert:
  settle_snapshots {resource} -> {}                * what the revert left; after commit, cannot be taken back
  invalidate {resource} -> {}                      * all of this member's data are copied from its peers

  begin_backup {vm, base, length} + vm.xml -> {path}   makes <base>/<vm>/backup anew; until the session's end nobody
        else works on a backup of that VM here
  remove_backup {vm, base} -> {}                   absent is success
  sweep_backup {resource, keep: [LABEL], room?: bool} -> {kept: {LABEL: proof|null}}      * what earlier backups of this
        replica left goes, snapshots with it that are not to be kept. room: NoSpace when full
  open_backup {resource, snapshot, before?: LABEL, before_bytes?} -> {bytes}      * makes it readable, and an earlier
        one, of a disk of so many bytes, with which it is compared
  begin_backup_file {vm, base, disk, increment, bytes} -> {path}      a qcow2 file, disk.<disk>.<increment>
  copy_backup {resource, path} -> {done, offset, data}       * of this host's snapshot, for seconds, or to the end
  read_backup {resource} -> {done, offset, length, zeros} + raw bytes unless zeros     * for another host's file:
  write_backup {path, offset, length} + raw bytes  zero_backup {path, offset, length}  end_backup_file {path} -> {}
  close_backup {resource, remove?: LABEL} -> {}    * it is read no more, and removed
  prepare_restore {resource} -> {bytes}            * an empty volume to be, beside the present one: what is written now
        (`write`) goes there, until swap_volume
  restored_digest {resource} -> {sha256, bytes}    * of what was written, which is on the disk then

  grow_volume {resource, bytes} -> {bytes, old_bytes}            * of a disk that holds data; a note of it is left.
        old_bytes: the size before, also when an earlier run has grown it already. NoSpace
  resize {resource, data_bytes, start, end, domain?} -> {clean, frozen_s}       * on the Primary, once all have grown:
        drbdadm resize, no resync; [start, end), from the smallest old data_end to the largest old size of a volume,
        becomes zeros through the device while `domain` is paused. Unsafe: not in sync, or it did not grow.
        clean false: it had grown before, so the members have to be compared, and stale blocks zeroed:
  block_digests {resource, start, end} -> {blocks: [text a 4 KiB]}               of this member's own volume
  zero_stale {resource, blocks: {offset: text}, domain?} -> {frozen_s}          * those that still hold the same
  finish_growth {resource, data_bytes} -> {}       * sizes compared, the file says the new one, the note is gone

  write_resource {spec: SPEC} -> {}                * whole file, atomic; Conflict if another has its minor or port
  change_members {spec: SPEC} -> {status: STATUS|null}     * like the present SPEC but for members, vm, state, proof,
        epoch, leaving, image_hosts, and minor and port while it is down. With DRBD 9 also while it is up: members that
        go are down before; the others first, then who comes: write_resource and bring_up there
  mark_ready {resource, proof?} -> {}              * state "ready", proof recorded
  generation {resource} -> {current, bitmap, consistent, uptodate, primary, connected, full_sync, peer_outdated,
                            crashed_primary, clean: bool}      read from the metadata; Unsafe while it is up
        proof of equality: `clean` on every member and the same `current` (its lowest bit is masked out)
  create_metadata {resource} -> {}                 * resource must be down and in state "making"; with a day0 it is
        stamped with it, a promise: this volume holds what all replicas held when they were stamped
  zero_old_metadata {resource, from, to, slots?} -> {}       * to = size before it grew, from = tools.drbd.data_end(to,
        slots); slots: of the old metadata, where the resource has other now;
        after create_metadata; spares the new metadata where both overlap, so it may come although nothing grew
  bring_up {resource} -> {status: STATUS}          * idempotent; undo takes it down again
  declare_equal {resource, proof} -> {}            * on ONE member, all up: waits for Connected, then new-current-uuid
        --clear-bitmap; nothing to do if all is UpToDate already
  await_ready {resource, timeout_s?, without?: [host]} -> {status: STATUS}   Connected, UpToDate everywhere, nothing
        out of sync; members in `without` are known to be away. Without timeout_s: CONNECT_TIMEOUT to connect,
        SYNC_TIMEOUT while a resync makes progress (told as log lines)
  take_down {resource, timeout_s?, passing?: bool} -> {}   absent or down is success; Busy while it is held open.
        passing: undo brings it up again
  remove_resource {resource} -> {}                 * file and minor; takes it down first. Busy while clones need it
  promote {resource} -> {status: STATUS}           Unsafe if not UpToDate or if a peer is Primary without intent
  demote {resource, timeout_s?} -> {status: STATUS|null}   retried while the device is held open, then Busy

  write {resource, offset, length, quiet?, packed?} + raw bytes -> {}     quiet: no answer, a failure is the next
        flush's answer; packed: the bytes are zlib's of so many
  flush {resource} -> {bytes}                      all written so far is on the disks of all connected members
  read {resource, offset, length} -> {length} + that many raw bytes (fewer at the end of the device)
  format {resource, filesystem} -> {}              ext2 ext3 ext4 xfs btrfs vfat swap
  digest {resource, length?, whole?} -> {sha256, bytes}    of this member's own volume, data area only; in any role.
        whole: the metadata too
  read_volume {resource, offset, length} -> {length, zeros} + that many raw bytes unless zeros     below DRBD, metadata
        too; takes the shared lock; Unsafe while it is up
  note_copy {resource, host, current: bool} -> {}  that host holds this image's content; under the shared lock. Whoever
        takes the exclusive one may change the image: no copy is current any more
  describe_lock {resource, text} -> {}             what others read who wait for the lock

  ensure_directory {path}  remove_directory {path} (with contents)  ensure_link {path, resource}  remove_link {path}
        -> {}
  list_files {path} -> {files: {name: bytes}, links: {name: target}, exists}    absent directory = empty
  read_file {path, offset?, length?} -> {length, size} + raw bytes
  write_file {path, offset?, length, mode?, last?} + raw bytes -> {}        last (default true) puts it in place
  rename_file {path, to} -> {renamed: bool}        within this host; false = `to` is on another file system
  remove_file {path} -> {}

  give_up {resource, frontend_time} -> {}          needs no lock: actions started before see it and stop
  note_content {resource, content: {path, mtime_ns, size}} -> {}      * the file on the frontend it was made from
  note_strays {resource, hosts: [host]} -> {}      * replicas that do not count may lie there; [] forgets it
  note_unfinished {resource, hosts: [..]} -> {}    clear_unfinished {resource} -> {}
  allow_two_primaries {resource, vm, source, destination} -> {}    intent first; needs Connected, UpToDate on both
  settle {vm, resources: [R], domain, role_here: bool|null}
        -> {resources: {R: {settled: bool, role, peer_role, why}}}      role_here null: look for the domain on this host
  find_domain {name} -> {state: text|null}         destroy_domain {name} -> {destroyed: bool}
  commit {} -> {}        GivenUp if a locked resource was given up after `started`: then close, and it rolls back

SPEC   {name, minor|null, port|null, secret, members: [{host, address, device|null, node_id}], state, kind,
        image_hosts: [host]?, vm|null, origin|null, proof|null, pool, data_bytes, slots, day0?: UUID|null, epoch?,
        leaving?: host|null}
        state: making, ready; copying, copy: a host that is no member holds an image's content, replicas on image_hosts;
        joining, leaving: whether this replica counts is known on image_hosts (farm/replicas).
        device = the volume's path on that member, null on a diskless client. One member = no DRBD: minor and port
        null, secret "". tools.drbd.new_secret() makes a secret.
STATUS {name, minor, role, disk, ready: bool, suspended: bool, client: bool,
        peers: [{host, connection, role, disk, replication, out_of_sync (KiB), client: bool}]}
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Tuple

from ..errors import BadInput
from ..grammar import shown
from . import (
    arguments,
    backup_operations,
    file_operations,
    growth,
    resource_operations,
    snapshot_operations,
    volume_operations,
)
from .work import Operation, Reply, Work

OPERATIONS: Dict[str, Operation] = {
    **volume_operations.OPERATIONS, **resource_operations.OPERATIONS, **file_operations.OPERATIONS,
    **snapshot_operations.OPERATIONS, **growth.OPERATIONS, **backup_operations.OPERATIONS,
}


def operation(op: str) -> Operation:
    """The operation of that name. Raises BadInput."""
    try:
        return OPERATIONS[op]
    except KeyError:
        raise BadInput(f"no operation {shown(op)}", hint="are frontend and host of the same version?") from None


def perform(work: Work, op: str, args: Mapping[str, Any], raw: bytes) -> Tuple[Dict[str, Any], bytes]:
    """Check the arguments, do it; the answer and the raw bytes behind it. Raises DncError."""
    wanted = operation(op)
    values = arguments.parse(op, wanted.shape, args)
    if wanted.takes_raw:
        values["raw"] = raw
    reply: Reply = wanted.act(work, **values)
    if isinstance(reply, tuple):
        return reply
    return reply or {}, b""
