"""DS export: an image as a file that a marketplace can fetch (contract 4)."""

from __future__ import annotations

import os
import re

from ..errors import BadConfig
from ..farm import exporter
from ..farm.sessions import Sessions
from ..grammar import parse_image_source, parse_path, shown
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call

ARGUMENTS = ("image",)
# OpenNebula puts the path into a shell's command line (DISPOSE_CMD).
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+\Z")


def run(call: Call) -> str:
    """A sparse raw file in STAGING_DIR of the datastore, TMPDIR or /var/tmp, which the marketplace driver removes.

    One that nobody fetches is removed by a later export, after two days.
    """
    message = parse_message(call.stdin)
    name = parse_image_source(message.require_image().source)
    staging = message.datastore.attributes.get("STAGING_DIR", "").strip()
    directory = parse_path(staging or os.environ.get("TMPDIR") or "/var/tmp")
    if not _PLAIN.match(directory):
        raise BadConfig(f"STAGING_DIR {shown(directory)} has blanks or signs", hint="letters, digits, / . _ - only")
    with Sessions(call) as farm:
        found = exporter.export(farm, name, directory)
        farm.commit()
    call.log.info(f"{name}: {found.bytes >> 20} MiB in {found.path}")
    return _answer(found)


def _answer(found: exporter.Exported) -> str:
    """On one line, as all that datastore drivers print."""
    fields = (
        ("IMPORT_SOURCE", found.path), ("MD5", found.md5), ("SIZE", str(found.bytes >> 20)), ("FORMAT", "raw"),
        ("DISPOSE", "YES"), ("DISPOSE_CMD", f"rm -f {found.path}"),
    )
    return f"<IMPORT_INFO>{''.join(f'<{key}>{value}</{key}>' for key, value in fields)}</IMPORT_INFO>"
