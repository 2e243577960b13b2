"""Whose hooks these are: a cluster manager or a boot script calls them as root, what they do is oneadmin's business."""

from __future__ import annotations

import os
import pwd

from ..errors import NoPrivilege


def become_owner(remotes: str) -> None:
    """When root calls, go on as the owner of the installed files. Raises NoPrivilege."""
    owner = os.stat(remotes).st_uid
    if os.geteuid() != 0 or owner == 0:
        return
    try:
        user = pwd.getpwuid(owner)
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except (KeyError, OSError) as error:
        raise NoPrivilege(f"cannot become the owner of {remotes}: {error}") from None
    os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)
