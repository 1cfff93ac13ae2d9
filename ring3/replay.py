"""Recording what programs say to real hosts, and replaying it without a network.

Part of: ring3 (the front door). May touch: box.net, the files that it is given.
"""

from __future__ import annotations

import os

from .errors import SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .netstack.replaying import Place
    from .networking import Net

    File = str | os.PathLike[str]


class Replay:
    """A record that is being replayed: ``refused`` lists what was asked and is not in it, ``left`` what is in it and
    nobody has asked for yet."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self._places: dict[tuple[str, int], Place] = {}

    @property
    def left(self) -> list[str]:
        return [text for place in self._places.values() for text in place.left()]


def start_recording(net: Net, file: File, open_tls: Iterable[int]) -> None:
    """See Net.record_to()."""
    from .netstack.recording import Recorder

    ports = _ports(open_tls)
    if net._segment.recorder is not None:
        raise UsageError("there is a recording already")
    context: Any = net.authority.context if ports else None
    try:
        opened = open(file, "wb")
    except OSError as e:
        raise SandboxError(f"cannot write the record {os.fspath(file)}: {e.strerror}") from None
    with net.lock:
        net._segment.recorder = Recorder(net._segment, opened, ports, context)


def start_replay(net: Net, file: File) -> Replay:
    """See Net.replay()."""
    from .netstack.replaying import Place, load

    try:
        with open(file, "rb") as opened:
            conversations = load(opened.read().splitlines())
    except OSError as e:
        raise SandboxError(f"cannot read the record {os.fspath(file)}: {e.strerror}") from None
    except ValueError as e:
        raise SandboxError(f"{os.fspath(file)}: {e}") from None
    replay = Replay()
    segment = net._segment

    def refuse(line: str) -> None:
        replay.refused.append(line)
        segment.net.loop.call_soon_threadsafe(lambda: segment.net.log(f"replay: {line}; refused (reset)"))

    for conversation in conversations:
        where = conversation.host, conversation.port
        place = replay._places.get(where)
        if place is None:
            place = replay._places[where] = Place(f"{where[0]}:{where[1]}", refuse)
            net.serve(*where, place, tls=conversation.tls)
        if conversation.sealed:
            segment.log_once(f"replay: {place.what}: what was said in TLS cannot be said again; left out")
        place.add(conversation)
    return replay


def _ports(given: Iterable[int]) -> frozenset[int]:
    ports = frozenset(given)
    if not all(isinstance(port, int) and 0 < port < 65536 for port in ports):
        raise UsageError("open_tls are ports")
    return ports
