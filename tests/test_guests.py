"""Every self-verifying program of tests/guests: natively first, where it must pass, then under ring3."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import hostfacts
import pytest
from guestbuild import Builder, MissingCompiler, Spec, all_specs
from harness import (
    BASE_ENV,
    NOBODY,
    Result,
    assert_clean,
    changed,
    host_listing,
    run_native,
    run_ring3,
)

from ring3.kernel.page_zero import refusal

REWRITE_MODES = ("detour", "off")
#: Programs that are run by way of page zero too, where it can be mapped: those that are about system call sites,
#: registers, signals and threads. The others make the same calls from the same sites, which would only take time;
#: signals_fault reads null, which zpoline-unsafe does not notice.
BY_PAGE_ZERO = frozenset("first_call own_text proc_exec regs rewritten signals_basic sites storm threads".split())
#: Programs that run once more in a ring3 that compares what the core remembers with what the supervisor says.
CHECKED = frozenset("files_matrix files_names files_open files_perms files_rules mounts remembered".split())
#: what a program takes for granted natively: where one of these is so (a container), it is run under ring3 alone
ORACLE_LACKS: dict[str, tuple[Callable[[], str], ...]] = {
    "attack": (hostfacts.own_init,),
    "drafts": (hostfacts.few_users,),
    "files_fds": (hostfacts.few_users,),
    "files_matrix": (hostfacts.filtered, hostfacts.shows_as_own),
    "filters": (hostfacts.filtered, hostfacts.no_new_privs),
    "mounts": (partial(hostfacts.missing_calls, "mount_setattr", "statmount", "listmount"),),
    "net_group": (hostfacts.no_route,),
    "net_inet": (hostfacts.no_route,),
    "proc_basic": (hostfacts.own_init,),
    "proc_exec": (hostfacts.no_new_privs,),
    "proc_files": (hostfacts.filtered, hostfacts.own_init),
    "signals_basic": (hostfacts.own_init,),
    "sysinfo": (hostfacts.few_users,),
    "xattrs": (partial(hostfacts.missing_calls, "setxattrat", "getxattrat", "listxattrat", "removexattrat"),),
}
#: where a guest that is root, or somebody else, falls short if ring3 is not run by the host's root (docs/lockdown.md)
SHORT_OF_ROOT = {
    "files_fds": "a memfd that a program itself makes belongs to who runs ring3",
    "mounts": "a tmpfs with a size cannot be remounted with another",
    "opened_ahead": "what the host lets only root read, virtual root may not read either",
    "signals_more": "signalfd(2) shows the host's uid of a sender",
}
SKIP = 77  # exit status of a program that cannot run on this machine; it prints why
CASES = [
    pytest.param(spec, variant, user, place, id=f"{spec.name}-{variant}-{user}-{place}")
    for spec in all_specs()
    for variant in spec.variants
    for user in spec.users
    for place in spec.places
]


@lru_cache(maxsize=1)
def page_zero() -> str:
    """The mode that uses page zero on this machine; "" if none can."""
    return next((m for m in ("zpoline", "zpoline-unsafe") if not refusal(m == "zpoline-unsafe")), "")


def modes_of(spec: Spec, variant: str) -> tuple[str, ...]:
    wanted = os.environ.get("RING3_TEST_ZPOLINE") or (spec.name in BY_PAGE_ZERO and variant == spec.variants[0])
    return (*REWRITE_MODES, page_zero()) if wanted and page_zero() else REWRITE_MODES


def verdict(result: Result) -> None:
    """Fails unless the program says that all of its cases are right."""
    assert_clean(result)
    if result.status == SKIP and b"SKIP" in result.out:
        pytest.skip(result.out.decode().strip())
    assert result.status == 0 and b"FAIL" not in result.out, result.describe()
    assert b"ok " in result.out, "said nothing\n" + result.describe()


def has_users() -> bool:
    """Root that may become others: not in a user namespace that has but one user."""
    return not hostfacts.not_root()


def no_oracle(spec: Spec, user: str) -> str:
    """Why the program cannot pass natively here; "" if it can."""
    if reasons := list(filter(None, (lacks() for lacks in ORACLE_LACKS.get(spec.name, ())))):
        return reasons[0]
    if user == "root" and not has_users():
        return "it needs root that may become every user"
    return "root cannot become nobody here" if os.getuid() == 0 and not has_users() else ""


@pytest.mark.parametrize(("spec", "variant", "user", "place"), CASES)
def test_guest(spec: Spec, variant: str, user: str, place: str, guests: Builder, workdir: Path) -> None:
    try:
        program = guests.path(spec.name, variant)
    except MissingCompiler as exc:
        pytest.skip(str(exc))
    uid = NOBODY if user == "nobody" and os.getuid() == 0 else None
    native_dir, guest_dir = workdir / "native", workdir / "guest"
    for path in (native_dir, guest_dir):
        path.mkdir()
        path.chmod(0o777)
    short = spec.name in SHORT_OF_ROOT and user == "root" and os.getuid() != 0
    if short or (spec.name in ("files_fds", "mounts") and os.getuid() == 0 and not has_users()):
        pytest.skip(f"without the host's root: {SHORT_OF_ROOT[spec.name]}")
    if reason := no_oracle(spec, user):
        print(f"under ring3 alone: {reason}")
    else:
        native = run_native(
            [program], cwd=native_dir, uid=uid, env={**BASE_ENV, "CHECK_SIDE": "native"}, timeout=spec.timeout
        )
        verdict(native)

    as_user = ["-u", "0:0"] if user == "root" else ["-u", f"{NOBODY}:{NOBODY}"] if uid else []
    opts = ["-e", "CHECK_SIDE=ring3", *as_user]
    opts += ["--tmpfs", "/mem", "-w", "/mem"] if place == "tmpfs" else ["-w", str(guest_dir)]
    runs: list[tuple[str, dict[str, str] | None]] = [(mode, None) for mode in modes_of(spec, variant)]
    if spec.name in CHECKED:
        runs.append(("detour", {**os.environ, "RING3_CHECK_ANSWERS": "1"}))
    for mode, env in runs:
        before = host_listing(guest_dir)
        how = [f"--rewrite={mode}", "-e", f"CHECK_REWRITE={mode}"]
        guest = run_ring3([program], *how, *opts, cwd=guest_dir, env=env, timeout=spec.timeout)
        assert not changed(before, host_listing(guest_dir)), "the host was written"
        verdict(guest)
        if not reason:
            assert guest.out == native.out, f"native:\n{native.describe()}\nring3, {mode}:\n{guest.describe()}"
