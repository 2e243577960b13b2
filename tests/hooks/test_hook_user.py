"""OpenNebula's user for hooks: made by one command, again and again, and able to do nothing but what hooks need."""

from __future__ import annotations

from collections.abc import Callable

import pyone
import pytest
from frontend import Frontend

from dnc.errors import BadConfig, NoPrivilege
from dnc.hooks import moved
from dnc.hooks.user import NAME


def setup(frontend: Frontend) -> str:
    return moved.run(frontend.call("--setup-user"))


def test_everything_is_made_once(frontend: Frontend) -> None:
    first, users = setup(frontend), frontend.cloud.rpc.users
    auth = frontend.home / "dnc_hook_auth"
    written = auth.read_text()
    assert auth.stat().st_mode & 0o777 == 0o600 and written.startswith(f"{NAME}:")
    assert "made" in first and "written" in first and written.split(":")[1].strip() not in first
    state = [vars(one) for one in users.users.values()], list(users.rules), dict(users.groups)
    again = setup(frontend)
    assert "works" in again and auth.read_text() == written
    assert ([vars(one) for one in users.users.values()], list(users.rules), dict(users.groups)) == state
    assert users.users[1].groups == [100] and users.vdc_groups == [1]
    assert frontend.stream.getvalue() == "" or "user" not in frontend.stream.getvalue()


def test_what_is_missing_is_mended(frontend: Frontend) -> None:
    setup(frontend)
    users, auth = frontend.cloud.rpc.users, frontend.home / "dnc_hook_auth"
    old = auth.read_text()
    auth.unlink()
    users.rules.pop()
    users.users[1].template.clear()
    said = setup(frontend)
    assert "new password" in said and "it may HOST/* USE+MANAGE" in said and "it has VM/* USE already" in said
    assert auth.read_text() != old
    assert "works" in setup(frontend)
    auth.chmod(0o644)
    assert "new password" in setup(frontend) and auth.stat().st_mode & 0o777 == 0o600


REFUSED: list[Callable[[pyone.OneServer, int], object]] = [
    lambda one, vm: one.vm.update(vm, "A=B", 1), lambda one, vm: one.image.info(0), lambda one, vm: one.user.info(0),
    lambda one, vm: one.user.allocate("me", "too", "core", [0]), lambda one, vm: one.acl.addrule("1", "1", "1"),
    lambda one, vm: one.user.update(1, 'VM_USE_OPERATIONS="migrate,terminate"', 1), lambda one, vm: one.vmpool.info(-2),
]


def test_it_may_do_nothing_else(frontend: Frontend) -> None:
    setup(frontend)
    session = (frontend.home / "dnc_hook_auth").read_text().strip()
    one = pyone.OneServer(frontend.cloud.rpc.url, session=session)
    for number, question in enumerate(REFUSED):
        with pytest.raises(pyone.OneAuthorizationException):
            question(one, frontend.vm.id)
            raise AssertionError(f"question {number} was answered")
    assert frontend.vm.id == one.vm.info(frontend.vm.id).ID and len(one.hostpool.info().HOST) == 2


def test_who_is_no_administrator_is_told_so(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    setup(frontend)
    monkeypatch.setenv("ONE_AUTH", str(frontend.home / "dnc_hook_auth"))
    with pytest.raises(NoPrivilege, match="run this as oneadmin"):
        setup(frontend)
    monkeypatch.setenv("ONE_AUTH", str(frontend.home / "nowhere"))
    with pytest.raises(BadConfig, match="no oned credentials"):
        setup(frontend)


def test_a_dry_run_makes_nothing(frontend: Frontend) -> None:
    said = moved.run(frontend.call("--setup-user", dry_run=True))
    assert said.startswith("would make") and list(frontend.cloud.rpc.users.users) == [0]
    assert not (frontend.home / "dnc_hook_auth").exists()
