"""OpenNebula's user for hooks, with the least rights that one.vm.migrate needs; made, or mended, by one command.

By itself migrate asks for ADMIN on the VM, which would allow to delete it. oned looks for the right that an operation
takes at the user first (VM_USE_OPERATIONS and its like in a user's template, then the group's, then oned.conf): so for
this one migrate takes USE, which allows nothing else but to see VMs. Hosts: USE to list them, MANAGE to be moved to.
A group of its own, outside of the default VDC, keeps away what ordinary groups may do.
"""

from __future__ import annotations

import os
import secrets
from typing import Any, List, NamedTuple, Tuple

from ..errors import DncError, NoPrivilege
from ..host.files import Files
from ..opennebula.api import Api, connect
from ..opennebula.credentials import hook_auth_path, read_session, split_session, write_session
from ..opennebula.driver import Call

NAME = "dnc-hook"
TEMPLATE = 'VM_USE_OPERATIONS="migrate"'

# AclRule.h of OpenNebula: who, what, and rights as bits of one number each.
_INDIVIDUAL, _ALL = 1 << 32, 1 << 34
_VM, _HOST = 1 << 36, 1 << 37
_USE, _MANAGE = 1, 2


class Rule(NamedTuple):
    """An ACL rule as one.acl.addrule takes it, and as `oneacl` writes it."""

    resource: int
    rights: int
    text: str


RULES = (Rule(_VM | _ALL, _USE, "VM/* USE"), Rule(_HOST | _ALL, _USE | _MANAGE, "HOST/* USE+MANAGE"))


def setup(call: Call) -> str:
    """Group, user, rights, credentials: made where they are missing; what was done, a line each. Idempotent.

    Asks with oneadmin's credentials (ONE_AUTH). Raises NoPrivilege when these are not an administrator's.
    """
    admin_path = os.environ.get("ONE_AUTH") or os.path.expanduser("~/.one/one_auth")
    admin = connect(call.config, read_session(admin_path), admin_path)
    if call.runner.dry_run:
        return f"would make user and group {NAME}, its rights, and {hook_auth_path(call.config)}"
    said: List[str] = []
    try:
        group = _ensure_group(admin, said)
        user, password = _ensure_user(admin, group, said)
        _ensure_template(admin, user, said)
        _ensure_rules(admin, user, said)
    except NoPrivilege as error:
        error.hint = "run this as oneadmin on the frontend"
        raise
    _ensure_credentials(call, admin, user, password, said)
    return "\n".join(said)


def _named(found: List[Any], name: str) -> int:
    """The id of the element of that name, -1 without."""
    return next((int(one.ID) for one in found if name == one.NAME), -1)


def _ensure_group(admin: Api, said: List[str]) -> int:
    groups = admin.ask("grouppool.info", lambda one: one.grouppool.info()).GROUP
    number = _named(groups, NAME)
    if number >= 0:
        said.append(f"group {NAME} is there ({number})")
        return number
    number = int(admin.ask("group.allocate", lambda one: one.group.allocate(NAME)))
    said.append(f"group {NAME} made ({number})")
    try:
        admin.ask("vdc.delgroup", lambda one: one.vdc.delgroup(0, number))
        said.append("taken out of the default VDC, which would let it use networks and datastores")
    except DncError as error:  # an administrator may have removed or changed that VDC
        said.append(f"the default VDC is left as it is: {error}")
    return number


def _ensure_user(admin: Api, group: int, said: List[str]) -> Tuple[int, str]:
    """The user's id, and its password when it was just made."""
    users = admin.ask("userpool.info", lambda one: one.userpool.info()).USER
    number = _named(users, NAME)
    if number >= 0:
        said.append(f"user {NAME} is there ({number})")
        return number, ""
    password = secrets.token_hex(24)
    number = int(admin.ask("user.allocate", lambda one: one.user.allocate(NAME, password, "core", [group])))
    said.append(f"user {NAME} made ({number})")
    return number, password


def _ensure_template(admin: Api, user: int, said: List[str]) -> None:
    found = admin.ask("user.info", lambda one: one.user.info(user)).TEMPLATE
    if found.get("VM_USE_OPERATIONS") == "migrate":
        said.append("migrate takes USE for it already")
        return
    admin.ask("user.update", lambda one: one.user.update(user, TEMPLATE, 1))
    said.append(f"its template says {TEMPLATE}: migrate takes USE for it, and nothing else does")


def _ensure_rules(admin: Api, user: int, said: List[str]) -> None:
    rules = admin.ask("acl.info", lambda one: one.acl.info()).ACL
    present = {(int(rule.USER, 16), int(rule.RESOURCE, 16), int(rule.RIGHTS, 16)) for rule in rules}
    who = _INDIVIDUAL | user
    for rule in RULES:
        if (who, rule.resource, rule.rights) in present:
            said.append(f"it has {rule.text} already")
            continue
        words = [f"{number:x}" for number in (who, rule.resource, rule.rights)]
        admin.ask("acl.addrule", lambda one, words=words: one.acl.addrule(*words))  # type: ignore[misc]
        said.append(f"it may {rule.text}")


def _ensure_credentials(call: Call, admin: Api, user: int, password: str, said: List[str]) -> None:
    """The file, when it is not there or does not open the door; a user that was there gets a new password then."""
    path = hook_auth_path(call.config)
    if not password and _works(call, path, user):
        said.append(f"{path} works")
        return
    if not password:
        password = secrets.token_hex(24)
        admin.ask("user.passwd", lambda one: one.user.passwd(user, password))
        said.append("it has a new password: copy the file to the hosts again")
    write_session(Files(call.log, False), path, NAME, password)
    said.append(f"{path} written, for its owner's eyes only; hosts that call dnc-moved need a copy")


def _works(call: Call, path: str, user: int) -> bool:
    try:
        session = read_session(path)
        if split_session(session)[0] != NAME:
            return False
        api = connect(call.config, session, path)
        return int(api.ask("user.info", lambda one: one.user.info(-1)).ID) == user
    except DncError as error:
        call.log.info(f"{path}: {error}")
        return False
