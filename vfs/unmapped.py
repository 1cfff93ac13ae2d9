"""Users and groups whom the supervisor's user namespace lacks: the host shows what is theirs as nobody's.

Layer: vfs, beneath everything. May touch: the supervisor's own maps of ids in /proc (user_namespaces(7)).
"""

from __future__ import annotations

_EVERYBODY = (1 << 32) - 1
_stand_ins: tuple[int, int] | None = None


def _stand_in(kind: str) -> int:
    """The id (of "uid" or "gid") that stands for all that the namespace lacks; -1 where it lacks none."""
    try:
        with open(f"/proc/self/{kind}_map") as f:
            if sum(int(line.split()[2]) for line in f) >= _EVERYBODY:
                return -1
        with open(f"/proc/sys/kernel/overflow{kind}") as f:
            return int(f.read())
    except OSError:
        return -1


def is_unmapped(uid: int, gid: int) -> bool:
    """May a host file with these ids belong to a user or a group whom the namespace lacks?"""
    global _stand_ins
    if _stand_ins is None:
        _stand_ins = _stand_in("uid"), _stand_in("gid")
    return uid == _stand_ins[0] or gid == _stand_ins[1]
