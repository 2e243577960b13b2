"""The context CD-ROM: an ISO 9660 image with label CONTEXT, built on the frontend (contract 1.2, context)."""

from __future__ import annotations

import os
import shutil
from typing import Iterable, Tuple

from ..command import Runner, find_tool
from ..errors import BadInput, DncError, NotFound, ToolMissing
from ..grammar import parse_path, shown
from .files import explain

TOOLS = ("genisoimage", "mkisofs", "xorrisofs")
LABEL = "CONTEXT"


def build(runner: Runner, sources: Iterable[str], directory: str) -> str:
    """Lay the files out below `directory` (private to the caller) and return the path of the finished ISO there.

    A source is a path, or PATH:NAME for a file of the file datastore, or an http address; guests find each under
    its base name or under NAME, `/` and blanks in it replaced, as OpenNebula's own action does it.
    Raises NotFound, BadInput, ToolMissing, ToolFailed.
    """
    tree = os.path.join(directory, "tree")
    os.mkdir(tree)
    sources = tuple(sources)
    if not sources:
        raise BadInput("no context file is given")
    for source in sources:
        _add(source, tree)
    image = os.path.join(directory, "context.iso")
    runner.run([_tool(), "-quiet", "-V", LABEL, "-J", "-R", "-o", image, tree], changes=False)
    return image


def split(source: str) -> Tuple[str, str]:
    """(path or address, name in the ISO)."""
    if source.startswith(("http://", "https://")):
        return source, _name(source.rpartition("/")[2])
    path, colon, name = source.partition(":")
    return parse_path(path), _name(name.strip("'")) if colon and name else os.path.basename(path)


def _name(text: str) -> str:
    name = text.replace("/", "_").replace(" ", "_")
    if name in ("", ".", "..") or any(ord(c) < 32 for c in name):
        raise BadInput(f"{shown(text)} is no name for a context file")
    return name


def _add(source: str, tree: str) -> None:
    path, name = split(source)
    target = os.path.join(tree, name)
    if path.startswith("/"):
        try:
            if os.path.isdir(path):
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, target)
        except FileNotFoundError:
            raise NotFound(f"context file {path} does not exist", hint="correct FILES in the VM's CONTEXT") from None
        except OSError as error:
            raise explain(error, path) from None
        return
    from .source import download

    download(path, target)


def _tool() -> str:
    for name in TOOLS:
        try:
            find_tool(name)
        except ToolMissing:
            continue
        return name
    raise ToolMissing("no tool to make the context CD-ROM", hint=f"install one of {', '.join(TOOLS)} on the frontend")


def require_built(path: str) -> int:
    """Bytes of the finished image. Raises DncError when there is none."""
    size = os.path.getsize(path) if os.path.exists(path) else 0
    if size == 0:
        raise DncError("the context CD-ROM was not built")
    return size
