"""Functions that no table names: found because proved code calls them.

Part of: loader (rewriting, cold path). May touch: nothing.

A stripped library without frame information (musl's) has names for what it exports and none for its own functions.
Where an instruction that is reached from a known function's start calls or jumps to a place outside of all of them,
an instruction begins there, and from there control flow is followed as from any start; and so it does where the
program starts, and where its relocated data point to. Bytes that look like a call but are not known to be reached
prove nothing. An address that code computes may be that of data: it counts only together with a system call there
that was executed (``computed``).
"""

from __future__ import annotations

from bisect import bisect_right

from .flow import BRANCH, CALL, JUMP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .flow import Flow
    from .functions import Functions, Range

MAX_TEXT = 8 << 20
"""Bytes of text beyond which callers are not searched."""
_MAX_ROUNDS = 8
_LEA = rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]"
_DIRECT = rb"[\xe8\xe9]|\x0f[\x80-\x8f]"


def called(
    segments: list[tuple[int, bytes]],
    known: list[int],
    functions: Functions,
    flow_of: Callable[[Range], Flow | None],
    wanted: list[int],
) -> list[Range]:
    """Functions around the vaddrs ``wanted``, which lie in none that is known, as [start, end of their gap).

    ``segments``: (vaddr, bytes) of the text; ``known``: where functions begin without being called: the program's first
    instruction, and what its data point to; ``flow_of`` disassembles.
    """
    if sum(len(code) for _, code in segments) > MAX_TEXT:
        return []
    gaps = sorted({gap for vaddr in wanted if (gap := _gap(segments, functions, vaddr))})
    starts = [gap[0] for gap in gaps]

    def gap_of(vaddr: int) -> Range | None:
        i = bisect_right(starts, vaddr) - 1
        return gaps[i] if i >= 0 and vaddr < gaps[i][1] else None

    callers = _callers(segments, gap_of)
    found: dict[int, int] = {}
    for start in known:
        if (gap := gap_of(start)) is not None:
            found[start] = gap[1]
    for _ in range(_MAX_ROUNDS):
        fresh: dict[int, int] = {}
        for caller, target, end in callers:
            if target not in found and any(
                _reaches(flow_of(r), caller, target) for r in _around(caller, functions, found, gap_of)
            ):
                fresh[target] = end
        if not fresh:
            break
        found |= fresh
    return sorted(found.items())


def computed(
    segments: list[tuple[int, bytes]],
    functions: Functions,
    flow_of: Callable[[Range], Flow | None],
    vaddr: int,
) -> Range | None:
    """A function that reaches ``vaddr`` and whose address is taken (lea start(%rip)) by code that is reached itself."""
    import re

    gap = _gap(segments, functions, vaddr)
    if gap is None or sum(len(code) for _, code in segments) > MAX_TEXT:
        return None
    for start, code in segments:
        for match in re.finditer(_LEA, code):
            end = match.end() + 4
            target = start + end + int.from_bytes(code[end - 4 : end], "little", signed=True)
            if gap[0] <= target <= vaddr and (by := functions.covering(start + match.start())) is not None:
                taking, flow = flow_of(by), flow_of((target, gap[1]))
                if taking is None or taking.broken or start + match.start() not in taking.reached:
                    continue
                if flow is not None and not flow.broken and vaddr in flow.reached:
                    return target, gap[1]
    return None


def _gap(segments: list[tuple[int, bytes]], functions: Functions, vaddr: int) -> Range | None:
    """The gap between known functions that ``vaddr`` lies in, cut at the ends of its segment."""
    for start, code in segments:
        if start <= vaddr < start + len(code):
            low, high = functions.gap_around(vaddr)
            return max(low, start), min(high, start + len(code))
    return None


def _callers(
    segments: list[tuple[int, bytes]], gap_of: Callable[[int], Range | None]
) -> list[tuple[int, int, int]]:
    """(vaddr, target, end of the target's gap) of all bytes that look like a direct branch into a gap."""
    import re

    found = []
    for start, code in segments:
        for match in re.finditer(_DIRECT, code):
            end = match.end() + 4
            target = start + end + int.from_bytes(code[end - 4 : end], "little", signed=True)
            gap = gap_of(target)
            if gap is not None and end <= len(code):
                found.append((start + match.start(), target, gap[1]))
    return found


def _around(
    vaddr: int, functions: Functions, found: dict[int, int], gap_of: Callable[[int], Range | None]
) -> list[Range]:
    """The functions, known or found, that ``vaddr`` may belong to."""
    covering = functions.covering(vaddr)
    if covering is not None:
        return [covering]
    gap = gap_of(vaddr)
    return [] if gap is None else [(s, end) for s, end in found.items() if gap[0] <= s <= vaddr < end]


def _reaches(flow: Flow | None, caller: int, target: int) -> bool:
    if flow is None or flow.broken:
        return False
    _, kind, leads_to = flow.reached.get(caller, (0, 0, -1))
    return kind in (CALL, JUMP, BRANCH) and leads_to == target
