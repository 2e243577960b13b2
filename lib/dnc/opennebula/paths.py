"""The forms in which paths come in argv: HOST:PATH of disks and VM directories (contract 1.2)."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import BadInput
from ..grammar import parse_host, parse_path, shown

_DISK = re.compile(r"(.*)/disk\.([0-9]{1,5})\Z", re.DOTALL)


class RemotePath(NamedTuple):
    """A path on a host, `HOST:PATH`."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"


class DiskPath(NamedTuple):
    """`HOST:DIRECTORY/disk.N`: a VM's disk as OpenNebula addresses it."""

    host: str
    directory: str
    disk: int

    @property
    def path(self) -> str:
        """The link's path on the host."""
        return f"{self.directory}/disk.{self.disk}"


def parse_remote_path(text: str) -> RemotePath:
    """`HOST:PATH`. Raises BadInput."""
    host, colon, path = text.partition(":")
    if not colon:
        raise BadInput(f"{shown(text)} is not of the form HOST:PATH")
    return RemotePath(parse_host(host), parse_path(path))


def parse_disk_path(text: str) -> DiskPath:
    """`HOST:DIRECTORY/disk.N`. Raises BadInput."""
    host, path = parse_remote_path(text)
    match = _DISK.match(path)
    if not match:
        raise BadInput(f"{shown(text)} is not a VM disk (HOST:PATH/disk.N)")
    return DiskPath(host, match.group(1), int(match.group(2)))


def is_disk_path(text: str) -> bool:
    """Whether argv names a disk; else `mv` and `delete` mean the VM's directory."""
    return _DISK.match(text) is not None


def parse_source(text: str) -> str:
    """SOURCE of a `FE:SOURCE` argument: everything after the first colon, or all of it (contract 1.2)."""
    _frontend, colon, source = text.partition(":")
    return source if colon else text
