"""The text of `ring3 trace --sites` and `ring3 doctor FILE`: what became of each system call site.

Layer: the pretend kernel; called by traps and by the command line.  May touch: nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..loader.site_cache import Entry
    from .traps import Place

LEARNED = "learned: rewritten from the next start on if its function bears it out"
FRAME = "rewritten ({}): this call needs what only a trap saves"
PASSED = "rewritten ({}), but entered by a branch to the instruction itself, or after a signal"


def report(rows: list[tuple[int, Place]], files: Iterable[tuple[str, Entry]]) -> str:
    """`rows`: (traps, site); `files`: (path, what is known) of every file that was mapped for execution."""
    rows.sort(key=lambda row: (row[1].rewritten, -row[0], row[1].name, row[1].vaddr))
    trapped = [row for row in rows if not row[1].rewritten]
    lines = [f"{sum(n for n, _ in trapped)} traps at {len(trapped)} sites that are not rewritten"]
    for count, place in rows:
        lines.append(f"{count:9d}  {place.name}+{place.vaddr:#x}  {_why(place)}")
    for name, entry in sorted(files):
        lines.append(summary(name, entry))
    return "\n".join(lines) + "\n"


def _why(place: Place) -> str:
    entry = place.entry
    if entry is None:
        return place.where
    site = entry.site(place.vaddr)
    if site is not None and site.form:
        return (FRAME if place.rewritten else PASSED).format(site.form)
    if entry.is_news(place.vaddr):
        return LEARNED
    return f"refused: {site.reason if site is not None else 'no instruction, as far as its file tells'}"


def summary(name: str, entry: Entry) -> str:
    """One line for a file."""
    if entry.analysis is None:
        return f"{name}: no x86-64 text that could be rewritten"
    sites, refused = entry.analysis.sites, entry.analysis.refused
    text = f"{name}: {len(sites) + len(refused)} sites"
    if sites:
        text += f", {len(sites)} rewritten ({_count(s.form for s in sites)})"
    if entry.learned:
        text += f", {len(entry.learned)} learned"
    if refused:
        text += f", {len(refused)} refused ({_count(s.reason for s in refused)})"
    return text


def details(name: str, entry: Entry) -> str:
    """The summary, and a line for each site."""
    lines = [summary(name, entry)]
    if entry.analysis is not None:
        for site in sorted((*entry.analysis.sites, *entry.analysis.refused), key=lambda s: s.vaddr):
            what = f"rewritten: {site.form}" if site.form else f"refused: {site.reason}"
            learned = ", learned" if site.vaddr in entry.learned else ""
            lines.append(f"  {site.vaddr:#10x}  {what}{learned}")
    return "\n".join(lines)


def _count(names: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
