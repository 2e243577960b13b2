"""The file with user:password for oned that hooks use: read only when nobody else can read it, written as 0600."""

from __future__ import annotations

import os
import stat
from typing import Tuple

from ..config import Config
from ..errors import BadConfig
from ..host.files import Files, explain

_LIMIT = 4096


def hook_auth_path(config: Config) -> str:
    """HOOK_AUTH of dncrc, else beside oneadmin's own file."""
    return config.hook_auth or os.path.expanduser("~/.one/dnc_hook_auth")


def read_session(path: str) -> str:
    """The one line user:password. Raises BadConfig (none there, owner, mode, content), NoPrivilege."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BadConfig(
            f"no oned credentials in {path}",
            hint="dnc-moved --setup-user on the frontend makes them; copy the file to hosts",
        ) from None
    except OSError as error:
        raise explain(error, path) from None
    try:
        _check(os.fstat(descriptor), path)
        lines = os.read(descriptor, _LIMIT).decode("utf-8", "replace").split("\n")
    finally:
        os.close(descriptor)
    session = lines[0].strip()
    user, colon, password = session.partition(":")
    if not (user and colon and password) or any(line.strip() for line in lines[1:]):
        raise BadConfig(f"{path} is not one line user:password", hint="dnc-moved --setup-user writes it anew")
    return session


def _check(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BadConfig(f"{path} is no regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise BadConfig(f"{path} belongs to user {found.st_uid}", hint=f"chown it to {_own_name()}")
    if found.st_mode & 0o077:
        raise BadConfig(f"{path} can be used by others (mode {found.st_mode & 0o777:o})", hint=f"chmod 600 {path}")


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def write_session(files: Files, path: str, user: str, password: str) -> None:
    """Put the file in place, whole, readable for its owner only. Raises NoPrivilege, NoSpace."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    except OSError as error:
        raise explain(error, os.path.dirname(path)) from None
    files.write(path, f"{user}:{password}\n", 0o600)


def split_session(session: str) -> Tuple[str, str]:
    """User and password of a session."""
    user, _colon, password = session.partition(":")
    return user, password
