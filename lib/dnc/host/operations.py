"""The closed set of operations that a host offers to the frontend, one JSON object a line.

Request   {"id": 1, "op": "lock", "args": {...}}          answer {"id": 1, "ok": {...}} or {"id": 1, "error": {DncError}}
In front of an answer any number of {"log": {"level": "INFO", "text": "..."}} lines. The first request must be `hello`.
A session ends at EOF, SIGTERM or SIGHUP: whatever was not committed is rolled back, newest first. Exit status of the agent: 0, or 1
if a roll-back step failed (the rest is left for the next run).

Types: R = resource name (one-1, one-1-42-0, one-sys-42-1), POOL = "zfs:tank/dnc" or "lvm:vg0/pool", PATH = absolute path below
the datastore location or /var/lib/dnc, bytes and offsets in bytes, times in seconds since the epoch, timeouts in seconds.
An argument marked ? may be left out or null. Unknown operations, unknown or missing arguments and wrong types are BadInput.

  hello           {version, dry_run, config, started, action?, debug?}
                  -> {host, address, version, drbd: "8.4"|"9"|null, slots, now}
                     host = `uname -n`; address = this host's in REPLICATION_NETWORK; slots = for tools.drbd.volume_size(data, slots)
  survey          {resources: [R]|null, pools: [POOL]?, vm_directory: PATH?}      null = every resource that has a file on this host
                  -> {resources: {R: {spec: SPEC|null, volume: {pool, name, bytes, device}|null, status: STATUS|null,
                                      given_up: {frontend, host}|null, intent: {vm, source, destination, since}|null,
                                      unfinished: {hosts, since}|null}},
                      pools: {POOL: {total, used, free}}, minors: [n] (taken on this host), links: {"disk.0": "/dev/drbd/by-res/R/0"}}
                     volume tells what can be seen without a process: null may also mean a volume that is not active
  lock            {resources: [R], timeout_s?, ignore_given_up?}       -> {}     held until the session ends; Busy, GivenUp
  reserve_minor   {resource, minor}     -> {reserved: bool}         needs the resource's lock; false = taken, try the next
  release_minor   {resource}            -> {}

  create_volume   {pool, name: R, bytes, tags: {kind, vm?, origin?}}      -> {bytes, device}                  reads as zeros
  clone_volume    {pool, origin: R, name: R, bytes: n|null (grow to), tags}   -> {bytes, origin_bytes, device, grown: bool}
                  both: a half-made leftover of that name (resource absent or "making") is removed first; Conflict otherwise; NoSpace
  ensure_volume_size {pool, name: R, bytes}   -> {bytes}           grows, never shrinks
  remove_volume   {pool, name: R}       -> {removed: bool}          Busy names the clones that need it; absent is success

  write_resource  {spec: SPEC}          -> {}                       whole file, atomic; Conflict if another resource has minor or port
  mark_ready      {resource, proof?}    -> {}                       state "ready", proof recorded
  generation      {resource}            -> {current, bitmap, consistent, uptodate, primary, connected, full_sync, peer_outdated,
                                            crashed_primary, clean: bool}         read from the metadata; resource must be down
                     proof of equality (8.4): clean on every member and the same `current` (lowest bit already masked out)
  create_metadata {resource}            -> {}                       resource must be down; never on a resource in state "ready"
  zero_old_metadata {resource, from, to}   -> {}        to = size of the volume before it grew; from = tools.drbd.data_end(to, slots)
  bring_up        {resource}            -> {status: STATUS}         idempotent; undo takes it down again
  declare_equal   {resource, proof}     -> {}                       on ONE member, all up: waits for Connected, then new-current-uuid
                                                                    --clear-bitmap; nothing to do if all is UpToDate already
  await_ready     {resource, timeout_s?}   -> {status: STATUS}      Connected, UpToDate everywhere, nothing out of sync. Without
                     timeout_s: CONNECT_TIMEOUT to connect, SYNC_TIMEOUT while a resync makes progress (told as log lines)
  take_down       {resource, timeout_s?}   -> {}                    absent or down is success; Busy while it is held open
  remove_resource {resource}            -> {}                       file and minor; must be down (it is taken down if it is not)
  promote         {resource}            -> {status: STATUS}         Unsafe if not UpToDate or if a peer is Primary without intent
  demote          {resource, timeout_s?}   -> {status: STATUS|null} retried while the device is held open, then Busy

  write           {resource, offset, length, quiet?}  + raw bytes   -> {}    quiet: no answer, a failure is the answer of the next flush
  flush           {resource}            -> {bytes}                  all written so far is on the disks of all connected members
  read            {resource, offset, length}      -> {length} + that many raw bytes (fewer at the end of the device)
  format          {resource, filesystem}   -> {}                    ext2 ext3 ext4 xfs btrfs vfat swap
  digest          {resource, length?}   -> {sha256, bytes}          of this member's own volume, data area only; any role

  ensure_directory {path}  remove_directory {path} (with contents)  ensure_link {path, resource}  remove_link {path}   -> {}
  list_files      {path}                -> {files: {name: bytes}, links: {name: target}}           absent directory = empty
  read_file       {path, offset?, length?}     -> {length, size} + raw bytes
  write_file      {path, offset?, length, mode?, last?} + raw bytes      -> {}      offset 0 begins; last (default true) puts it in place
  remove_file     {path}                -> {}

  give_up         {resource, frontend_time}   -> {}                 needs no lock: actions started before see it and stop
  note_unfinished {resource, hosts: [..]}  -> {}       clear_unfinished {resource} -> {}
  allow_two_primaries {resource, vm, source, destination}      -> {}       intent written first; needs Connected, UpToDate on both
  settle          {vm, resources: [R], domain, role_here: bool|null}
                  -> {resources: {R: {settled: bool, role, peer_role, why}}}      role_here null: look for the domain on this host
  find_domain     {name}                -> {state: text|null}
  destroy_domain  {name}                -> {destroyed: bool}
  commit          {}                    -> {}       GivenUp if a locked resource was given up after `started`: close, it rolls back

SPEC   {name, minor|null, port|null, secret, members: [{host, address, device, node_id}], state: "making"|"ready", kind, vm|null,
        origin|null, proof|null, pool, data_bytes, slots}      device = the volume's path on that member (answer of create_/clone_volume)
        One member = no DRBD: minor and port null, secret "".   tools.drbd.new_secret() makes a secret.
STATUS {name, minor, role, disk, ready: bool, suspended: bool,
        peers: [{host, connection, role, disk, replication, out_of_sync (KiB)}]}
"""

from __future__ import annotations
