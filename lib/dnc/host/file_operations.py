"""Operations on the VMs' directories; operations.py says what each takes and answers."""

from __future__ import annotations

import os
from functools import partial
from typing import Dict

from . import arguments as a
from .work import Operation, Reply, Work, offer


def ensure_directory(work: Work, path: str) -> Reply:
    """Make a directory; undo removes it if it is still empty."""
    if work.host.links.ensure_directory(path):
        work.undo.push(f"directory {path}", partial(_remove_empty, path))
    return None


def _remove_empty(path: str) -> None:
    if os.path.isdir(path) and not os.listdir(path):
        os.rmdir(path)


def remove_directory(work: Work, path: str) -> Reply:
    """Remove a directory with its contents."""
    work.host.links.remove_directory(path)
    return None


def ensure_link(work: Work, path: str, resource: str) -> Reply:
    """Link a VM's disk to the device of a resource."""
    host = work.host
    device = host.resources.ensure_device(host.resource_files.get(resource))
    before = host.links.target(path)
    host.links.ensure_link(path, device)
    if not before:
        work.undo.push(f"link {path}", partial(host.links.remove_link, path))
    elif before != device:
        work.undo.push(f"link {path} as it was", partial(host.links.ensure_link, path, before))
    return None


def remove_link(work: Work, path: str) -> Reply:
    """Remove a link."""
    work.host.links.remove_link(path)
    return None


def list_files(work: Work, path: str) -> Reply:
    """Files and links of a directory."""
    files, links = work.host.links.listing(path)
    return {"files": files, "links": links, "exists": work.host.links.exists(path)}


def read_file(work: Work, path: str, offset: int = 0, length: int = a.RAW_LIMIT) -> Reply:
    """A piece of a file."""
    data, size = work.host.links.read(path, offset, length)
    return {"length": len(data), "size": size}, data


def write_file(
    work: Work, path: str, length: int, raw: bytes, offset: int = 0, mode: int = 0o644, last: bool = True
) -> Reply:
    """A piece of a file; the last puts it in place."""
    fresh = not os.path.lexists(path)
    work.host.links.write(path, offset, raw, mode & 0o777, last)
    if last and fresh:
        work.undo.push(f"file {path}", partial(work.host.links.remove_file, path))
    return None


def remove_file(work: Work, path: str) -> Reply:
    """Remove a file."""
    work.host.links.remove_file(path)
    return None


def rename_file(work: Work, path: str, to: str) -> Reply:
    """Move a file within this host; undo moves it back."""
    renamed = work.host.links.rename_file(path, to)
    if renamed:
        work.undo.push(f"file {path} moved", partial(work.host.links.rename_file, to, path))
    return {"renamed": renamed}


OPERATIONS: Dict[str, Operation] = {
    "ensure_directory": offer(ensure_directory, path=a.path),
    "remove_directory": offer(remove_directory, path=a.path),
    "ensure_link": offer(ensure_link, path=a.path, resource=a.resource),
    "remove_link": offer(remove_link, path=a.path),
    "list_files": offer(list_files, path=a.path),
    "read_file": offer(read_file, path=a.path, offset_=a.number, length_=a.raw_length),
    "write_file": offer(
        write_file, True, path=a.path, offset_=a.number, length=a.raw_length, mode_=a.number, last_=a.flag
    ),
    "rename_file": offer(rename_file, path=a.path, to=a.path),
    "remove_file": offer(remove_file, path=a.path),
}
