"""The resource files of a host: written whole, found by name, and what minors and ports they use, foreign ones too."""

from __future__ import annotations

import os
from typing import Dict, Optional, Tuple

from ..errors import BadInput, Conflict, NotFound
from ..grammar import parse_resource
from ..log import Log
from ..tools.resource import HEADER, ResourceSpec, parse_file, usage
from .files import Files, read_text


class ResourceFiles:
    """The resource files of a host: /etc/drbd.d/<name>.res, or /var/lib/dnc/single/<name>.res without DRBD."""

    def __init__(self, drbd_directory: str, single_directory: str, files: Files, log: Log) -> None:
        self._directories = (drbd_directory, single_directory)
        self._files = files
        self._log = log
        self._planned: Dict[str, ResourceSpec] = {}  # in a dry run: what the steps after a write go on from

    def path(self, name: str, replicated: bool = True) -> str:
        """Where the file of a resource belongs."""
        return f"{self._directories[0 if replicated else 1]}/{name}.res"

    def find(self, name: str) -> Optional[ResourceSpec]:
        """The record of a resource, None when it has no file here. Raises Conflict for a foreign file of that name."""
        if name in self._planned:
            return self._planned[name]
        for replicated in (True, False):
            text = read_text(self.path(name, replicated))
            if text:
                spec = parse_file(name, text)
                if spec is None:
                    raise Conflict(f"{name}.res was not written by dnc", hint=f"move {self.path(name)} away")
                return spec
        return None

    def get(self, name: str) -> ResourceSpec:
        """The record of a resource. Raises NotFound."""
        spec = self.find(name)
        if spec is None:
            raise NotFound(f"{name} has no resource file on this host")
        return spec

    def _texts(self) -> Dict[str, str]:
        texts: Dict[str, str] = {}
        for directory in self._directories:
            names = os.listdir(directory) if os.path.isdir(directory) else []
            for name in sorted(names):
                if name.endswith(".res"):
                    texts[name[:-4]] = read_text(f"{directory}/{name}") or ""
        return texts

    def all(self) -> Dict[str, ResourceSpec]:
        """Every resource of dnc on this host; a damaged file is told and left out."""
        specs: Dict[str, ResourceSpec] = {}
        for name, text in self._texts().items():
            try:
                parse_resource(name)
                spec = parse_file(name, text)
            except BadInput as error:
                if text.startswith(HEADER):
                    self._log.warn(str(error))
                continue
            if spec is not None:
                specs[name] = spec
        return specs

    def count(self) -> int:
        """How many resource files there are, read by nobody: what hosts are compared by, not what is trusted."""
        directories = [path for path in self._directories if os.path.isdir(path)]
        return sum(name.endswith(".res") for path in directories for name in os.listdir(path))

    def usage(self) -> Tuple[Dict[int, str], Dict[int, str]]:
        """(minor -> resource, port -> resource) over all files, foreign ones too."""
        minors: Dict[int, str] = {}
        ports: Dict[int, str] = {}
        for name, text in self._texts().items():
            for minor in usage(text)[0]:
                minors.setdefault(minor, name)
            for port in usage(text)[1]:
                ports.setdefault(port, name)
        return minors, ports

    def write(self, spec: ResourceSpec, text: str) -> None:
        """Put the file in place. Raises Conflict when another resource has its minor or port: one such file
        would stop every drbdadm command of the host."""
        self.find(spec.name)
        minors, ports = self.usage()
        for what, number, users in (("minor", spec.minor, minors), ("port", spec.port, ports)):
            if number is not None and users.get(number, spec.name) != spec.name:
                raise Conflict(f"{spec.name}: {what} {number} belongs to {users[number]}", hint="reserve another one")
        path = self.path(spec.name, spec.replicated)
        if not spec.replicated and not self._files.would(f"use {os.path.dirname(path)}"):
            os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        self._files.write(path, text)
        if self._files.dry_run:
            self._planned[spec.name] = spec

    def remove(self, name: str) -> None:
        """Remove the file; absent is success."""
        for replicated in (True, False):
            self._files.remove(self.path(name, replicated))
