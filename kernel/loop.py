"""The event loop of one sandbox: host descriptors, timers, and coroutines of calls that block.

Layer: the pretend kernel, beneath dispatch.  May touch: one epoll descriptor, one eventfd.

Not asyncio: a request costs one epoll_wait, one read and one futex wake here, and importing asyncio alone
would take longer than starting a guest.  Everything runs in the loop's thread with the sandbox's lock held.
"""

from __future__ import annotations

import heapq
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Coroutine, Generator, Iterable
    from typing import Any

    from .watch import Watch

#: how long the loop looks for further work before it sleeps, and how many sleeps at most go without a look when
#: looking was in vain (as core_native/channel.c does it); after the first part of it others may run
SPIN_NS, SPIN_ALONE_NS = 200_000, 20_000
SKIP_MAX = 32
MOST_CHORES = 64
#: so long after work the watchdog looks whether all of it is done (kernel/watchdog.py)
WATCHDOG_NS = 5_000_000_000
EPOLLIN, EPOLLHUP, EPOLLERR, EPOLLRDHUP = select.EPOLLIN, select.EPOLLHUP, select.EPOLLERR, select.EPOLLRDHUP


class Interrupted(OSError):
    """Thrown into a blocked call when its task gets a signal; handlers let it pass (or tidy up in `finally`)."""


class Event:
    """Something that blocked calls wait for: `await event`; `event.set()` wakes every waiter."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._waiters: list[Running] = []
        self._set = False

    def set(self) -> None:
        """Wake whoever waits, now and later."""
        self._set = True
        self.wake()

    def wake(self) -> None:
        """Wake whoever waits now."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.resume()

    def __await__(self) -> Generator[Event, None, None]:
        if not self._set:
            yield self


class Running:
    """A coroutine that is being driven; `done(result, exception)` is called once."""

    __slots__ = ("_coro", "_done", "_waiting")

    def __init__(
        self, coro: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None]
    ) -> None:
        self._coro = coro
        self._done = done
        self._waiting: Event | None = None
        self.resume()

    @property
    def waiting(self) -> bool:
        """Has it not ended yet?"""
        return self._waiting is not None

    def resume(self) -> None:
        self._step(None)

    def throw(self, exception: BaseException) -> None:
        """Interrupt it where it waits."""
        if self._waiting is not None and self in self._waiting._waiters:
            self._waiting._waiters.remove(self)
        self._step(exception)

    def _step(self, exception: BaseException | None) -> None:
        self._waiting = None
        try:
            event = self._coro.throw(exception) if exception is not None else self._coro.send(None)
        except StopIteration as stop:
            self._done(stop.value, None)
        except BaseException as failure:
            self._done(None, failure)
        else:
            self._waiting = event
            event._waiters.append(self)


class Loop:
    """See the module's text.  `lock` is held while callbacks run; `failed(exception)` hears of what they raise."""

    def __init__(self, lock: threading.RLock, failed: Callable[[BaseException], None]) -> None:
        self._lock = lock
        self._failed = failed
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._calls: list[Callable[[], None]] = []
        self._chores: list[Callable[[], None]] = []
        self._running = True
        self.add(self._wake_fd, self._woken)

    def add(self, fd: int, callback: Callable[[int], None], events: int = EPOLLIN) -> None:
        """Call `callback(events)` whenever `fd` is ready.  `remove` it before it is closed."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def remove(self, fd: int) -> None:
        """Forget `fd`; nothing happens if it is not known."""
        if self._callbacks.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass

    def watch_hup(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback()` once, when the peer of the socket `fd` has been closed everywhere."""

        def hup(events: int) -> None:
            if events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP):
                self.remove(fd)
                callback()

        self.add(fd, hup, EPOLLRDHUP)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback()` in the loop's thread after `seconds`."""
        self._timer_count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_count, callback))

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call `callback()` in the loop's thread; may be used from any thread."""
        self._calls.append(callback)
        os.eventfd_write(self._wake_fd, 1)

    def when_idle(self, chore: Callable[[], None], first: bool = False) -> None:
        """Call `chore()` in the loop's thread when nobody waits for an answer, `first` before all others."""
        self._chores.insert(0 if first else len(self._chores), chore)
        if len(self._chores) > MOST_CHORES:
            self._shielded(self._chores.pop(0))

    def stop(self) -> None:
        """Make `run` return; may be used from any thread."""
        self._running = False
        os.eventfd_write(self._wake_fd, 1)

    def run(self, watch: Watch, watchdog: Callable[[], bool]) -> None:
        """Serve until `stop`: what comes by itself, and what `watch` finds.  `watchdog` says: call me again."""
        poll, lock = self._epoll.poll, self._lock
        clock, give_way = time.monotonic_ns, os.sched_yield
        turn = vain = skip = idle_since = look_at = 0
        worked = False
        while self._running:
            turn += 1
            # Those who ring wait for two requests at most; what they get comes before, and so instead of, what is
            # looked at of the same process.
            events = poll(0) if turn & 1 else ()
            if events:
                with lock:
                    self._handle(events)
            served = bool(watch.hot)
            if served:
                with lock:
                    served = self._shielded(watch.look)
            if served or events:
                worked = True
                if idle_since:
                    idle_since = vain = 0
            elif not turn & 1:
                continue
            elif self._chores:
                with lock:
                    self._shielded(self._chores.pop(0))
                continue
            else:
                # Guests call in bursts: look a little longer before sleeping, since being woken costs more.
                now = clock()
                idle_since = idle_since or now
                if not skip and now - idle_since < SPIN_NS:
                    if now - idle_since > SPIN_ALONE_NS:
                        give_way()
                    continue
                if skip:
                    skip -= 1
                else:
                    skip = vain = min(vain * 2 + 1, SKIP_MAX)
                with lock:
                    if self._shielded(watch.rest):
                        continue
                idle_since = 0
                if look_at and now >= look_at:
                    with lock:
                        worked |= self._shielded(watchdog)
                    look_at = 0
                if worked and not look_at:
                    look_at, worked = now + WATCHDOG_NS, False
                events = poll(self._until(look_at))
                if events:
                    with lock:
                        self._handle(events)
            if self._timers:
                with lock:
                    self._run_timers()

    def _until(self, look_at: int) -> float | None:
        """How long to sleep, in seconds: until the next timer, or `look_at` (nanoseconds; 0: never); None for ever."""
        ends = [self._timers[0][0]] if self._timers else []
        if look_at:
            ends.append(look_at / 1e9)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _handle(self, events: Iterable[tuple[int, int]]) -> None:
        for fd, mask in events:
            callback = self._callbacks.get(fd)
            if callback is None:
                continue
            try:
                callback(mask)
            except Exception as e:
                self._told(e)

    def _told(self, failure: BaseException) -> None:
        """Tell of a failure; whatever comes of that, the loop lives on: guests wait for it."""
        try:
            self._failed(failure)
        except Exception:
            pass  # there is not even memory for a line

    def _shielded(self, function: Callable[[], bool | None]) -> bool:
        try:
            return bool(function())
        except Exception as e:
            self._told(e)
            return True

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2]
            try:
                callback()
            except Exception as e:
                self._told(e)

    def _woken(self, _events: int) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    def finish(self) -> None:
        """Do what `when_idle` was told and what is left, after `run` has returned."""
        while self._chores:
            self._shielded(self._chores.pop(0))

    def close(self) -> None:
        """Free the loop's own descriptors, after `run` has returned."""
        self._epoll.close()
        os.close(self._wake_fd)
        self._callbacks.clear()
