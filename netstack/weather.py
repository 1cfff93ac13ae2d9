"""Weather: what happens to connections and datagrams on their way to other machines, repeatable by a seed.

Layer: netstack, beside segment.py.  May touch: nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.loop import Event


@dataclass(frozen=True)
class Weather:
    """Of the way to a host, and back: `latency` seconds each way and up to `jitter` more, `bandwidth` bytes a second.

    For connections: `reset_after` and `stall_after` so many bytes, both ways together.  For datagrams: the probability
    of `loss`, of being sent twice (`duplicate`), and of being overtaken (`reorder`: it takes twice the latency and
    10 ms more).  `cut`: nothing gets through.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reset_after: int = 0
    stall_after: int = 0
    cut: bool = False

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "bandwidth", "reset_after", "stall_after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative")
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability, from 0 to 1")

    def delay(self, dice: random.Random) -> float:
        """Seconds that something takes one way."""
        return self.latency + (dice.uniform(0, self.jitter) if self.jitter else 0.0)

    def deliveries(self, dice: random.Random) -> list[float]:
        """After how many seconds each copy of a datagram arrives; none: it is lost."""
        if self.cut or (self.loss and dice.random() < self.loss):
            return []
        delays = [self.delay(dice)]
        if self.duplicate and dice.random() < self.duplicate:
            delays.append(self.delay(dice))
        if self.reorder and dice.random() < self.reorder:
            delays[0] += self.latency + 0.01
        return delays


FAIR = Weather()


class Climate:
    """The weather of each host, "" for all that have none of their own; it may change at any time."""

    def __init__(self) -> None:
        self._weather: dict[str, Weather] = {}
        self._seed = 0
        self.seeded = False  # has somebody asked for a run that is like another?
        self._links: dict[str, int] = {}
        self._dice: dict[str, random.Random] = {}
        self._waiting: list[Event] = []

    def set(self, name: str, weather: Weather, seed: int | None) -> None:
        """From now on `name` has this weather; a seed starts everything random anew."""
        if weather == FAIR and name:
            self._weather.pop(name, None)
        else:
            self._weather[name] = weather
        if seed is not None:
            self._seed, self.seeded = seed, True
            self._links.clear()
            self._dice.clear()
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    @property
    def fair(self) -> bool:
        """Is there no weather anywhere?"""
        return all(w == FAIR for w in self._weather.values())

    def at(self, name: str) -> Weather:
        """The weather on the way to a host."""
        return self._weather.get(name) or self._weather.get("", FAIR)

    def dice(self, name: str) -> random.Random:
        """For the next connection to `name`: the same for the n-th one in every run with the same seed."""
        number = self._links[name] = self._links.get(name, 0) + 1
        return random.Random(f"{self._seed} {name} {number}")

    def datagram_dice(self, way: str) -> random.Random:
        """For the datagrams that go one way, one after the other."""
        if way not in self._dice:
            self._dice[way] = random.Random(f"{self._seed} {way}")
        return self._dice[way]

    def wake_when_changed(self, event: Event) -> None:
        """Set `event` when the weather changes."""
        self._waiting.append(event)
