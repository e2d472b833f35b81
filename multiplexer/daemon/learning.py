"""How a vif's filter comes to know its address: from what the engine sees to other tables.

The engine only says what was seen; here it is decided what that means, by
`policy.nwfilter.learning`, and the vif's filter becomes another one as by a definition:
made ready, kept in the database, and then in force.  What is in force is what the
database says, so a restart goes on with it.

Nobody is woken as often as clients like.  The engine is asked a few times a second, for
some of what it has; and the filter of one vif changes a few times a minute, and for a
small part of the time.  What comes meanwhile changes only what it will be.

What DHCP has assigned ends with its time.  What else was seen is of the stack that was
attached: once it is gone for good, the next may have another address.
"""

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

import attrs
import trio

from multiplexer.daemon import channel
from multiplexer.daemon.audit import Log
from multiplexer.daemon.authorize import Refused
from multiplexer.daemon.calls import RequestFailed
from multiplexer.daemon.database import StateError
from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.gates import differing
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.live_vif import LiveVif, Patience
from multiplexer.daemon.recollection import forget_learned
from multiplexer.daemon.state import State
from multiplexer.daemon.vifs import Vifs
from multiplexer.policy.nwfilter.binding import given
from multiplexer.policy.nwfilter.learning import (
    Kind,
    Learned,
    Mode,
    Search,
    Sighting,
    unexpired,
)

#: Between two questions to the engine.
PAUSE_S: Final = 0.05

#: So often the filter of one vif changes by what is learned, within that time.
MOST_CHANGES: Final = 4
WITHIN_S: Final = 40.0

#: And it takes at most one part of so many of the time, however many rules there are.
PARTS: Final = 10

#: After engine or database have failed.
RETRY_S: Final = 10.0

#: The Unix clock may be set meanwhile.
LONGEST_WAIT_S: Final = 600.0


@attrs.define(eq=False)
class _Learner:
    """What was seen of one vif: *learned* is what is to be in force.

    *due* is when that is looked at, by trio's clock; before *not_before* it is not.
    """

    live: LiveVif
    learned: tuple[Learned, ...]
    due: float = float("inf")
    not_before: float = 0.0
    is_watched: bool = False
    changes: deque[float] = attrs.field(factory=lambda: deque(maxlen=MOST_CHANGES))


class Learning:
    """Learns addresses of all vifs.  *now* is the Unix clock."""

    def __init__(
        self,
        in_force: InForce,
        vifs: Vifs,
        engine: EngineClient,
        state: State,
        log: Log,
        patience: Patience,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._in_force = in_force
        self._vifs = vifs
        self._engine = engine
        self._state = state
        self._log = log
        self._patience = patience
        self._now = now
        #: By the id of the vif, for as long as it is there.
        self._learners: dict[str, _Learner] = {}
        #: When each is due, the first in front; one that is due at another time is passed over.
        self._queue: list[tuple[float, int, _Learner]] = []
        self._numbers = itertools.count()
        self._hurried = trio.Event()
        self._nursery: trio.Nursery

    def recall(self, known_ids: Iterable[str]) -> None:
        """Go on with what an earlier run has learned of the vifs of these ids.

        Raises:
            StateError: if the database cannot be used.
        """
        known = frozenset(known_ids)
        for vif_id, learned in self._state.learned().items():
            kept = unexpired(learned, self._now()) if vif_id in known else ()
            if kept:
                self._in_force.learned[vif_id] = kept
            else:
                forget_learned(self._state, [vif_id], self._log)

    async def run(self) -> None:
        """Learn until cancelled, once the vifs are served."""
        async with trio.open_nursery() as self._nursery:
            for live in self._vifs.roster:
                if live.vif.id in self._in_force.learned:
                    learner = self._learner(live)
                    self._watch(learner, self._patience.after_start_s)
                    self._schedule(learner)
            self._nursery.start_soon(self._listen)
            await self._settle_each()

    async def _listen(self) -> None:
        while True:
            for sighting in await self._engine.wait_sightings():
                self._note(sighting)
            await trio.sleep(PAUSE_S)

    def _note(self, sighting: channel.Sighting) -> None:
        live = self._vifs.roster.at_port(sighting.port)
        # It may have gone meanwhile, or its filter.
        if live is None or live.vif.id != sighting.vif_id or not self._is_there(live):
            return
        if live.vif.filter is None:
            return
        learner, search = self._learner(live), _search_for(live)
        before = learner.learned
        learner.learned = search.after(before, _read(sighting), self._now())
        if learner.learned != before:
            self._schedule(learner, trio.current_time())

    def _is_there(self, live: LiveVif) -> bool:
        return self._vifs.roster.serves(live)

    def _learner(self, live: LiveVif) -> _Learner:
        learner = self._learners.get(live.vif.id)
        if learner is None:
            vif_id = live.vif.id
            learner = _Learner(live, self._in_force.learned.get(vif_id, ()))
            self._learners[vif_id] = learner
            live.steps.callback(self._forget, vif_id)
        return learner

    def _forget(self, vif_id: str) -> None:
        """A vif has gone; if it comes back, it is as after a start without what was kept."""
        self._learners.pop(vif_id)
        self._in_force.learned.pop(vif_id, None)

    def _schedule(self, learner: _Learner, at: float = float("inf")) -> None:
        """Look at *learner* at that time, or when the first lease ends."""
        now, clock = trio.current_time(), self._now()
        ends = [each.expires_s for each in learner.learned if each.expires_s is not None]
        if ends:
            at = min(at, now + min(max(0.0, min(ends) - clock), LONGEST_WAIT_S))
        learner.due = max(at, learner.not_before)
        if learner.due < float("inf"):
            heapq.heappush(self._queue, (learner.due, next(self._numbers), learner))
            self._hurried.set()

    async def _settle_each(self) -> None:
        while True:
            with trio.move_on_at(self._queue[0][0] if self._queue else float("inf")):
                await self._hurried.wait()
            self._hurried = trio.Event()
            while self._queue and self._queue[0][0] <= trio.current_time():
                due, _, learner = heapq.heappop(self._queue)
                if due == learner.due:
                    learner.due = float("inf")
                    await self._settle(learner)

    async def _settle(self, learner: _Learner) -> None:
        """Let what was learned be in force."""
        live = learner.live
        async with self._vifs.changing:
            if not self._is_there(live):
                return
            begun = trio.current_time()
            before = self._in_force.learned.get(live.vif.id, ())
            wanted = unexpired(learner.learned, self._now())
            if live.vif.filter is not None:
                wanted = _search_for(live).kept(wanted)
            learner.learned = wanted
            try:
                if wanted != before:
                    await self._put_in_force(live, wanted)
                    self._log.audit("address-learned", name=live.name, addresses=_words(wanted))
            except Refused as refused:
                self._log.warning(f"vif {live.name} stays without {_words(wanted)}: {refused}")
                # What came meanwhile may be just what makes it possible.
                if learner.learned == wanted:
                    learner.learned = before
                wanted = before
                learner.not_before = begun + RETRY_S
            except (RequestFailed, StateError) as error:
                self._log.error(f"what was learned of vif {live.name} is not in force: {error}")
                learner.not_before = begun + RETRY_S
                self._schedule(learner, begun)
                return
            if wanted != before:
                _pace(learner, begun, trio.current_time())
        # What came meanwhile came on top of it.
        came = learner.learned != wanted
        self._schedule(learner, trio.current_time() if came else float("inf"))
        self._watch(learner, self._patience.after_detach_s)

    async def _put_in_force(self, live: LiveVif, learned: tuple[Learned, ...]) -> None:
        """Judge the vif by its filter with these addresses, and keep them.

        Raises:
            Refused: if the filter cannot be bound with them; then nothing has changed.
            RequestFailed: if the engine does not take it; the same.
            StateError: if it cannot be kept; the same.
        """
        in_force, gates, vif = self._in_force, self._vifs.gates, live.vif
        config, library = in_force.config, in_force.library
        now = await gates.tables(config, library, [vif])
        then = await gates.tables(config, library, [vif], {vif.id: learned})
        async with gates.switching(differing([live.port], now, then)):
            await trio.to_thread.run_sync(self._state.keep_learned, vif.id, learned)
        in_force.learned[vif.id] = learned
        if not learned:
            del in_force.learned[vif.id]

    def _watch(self, learner: _Learner, first_s: float) -> None:
        """See to it that what a stack has taken goes with it, if nobody is there for *first_s*."""
        if not learner.is_watched and any(each.mode is Mode.ANY for each in learner.learned):
            learner.is_watched = True
            self._nursery.start_soon(self._forget_unused, learner, first_s)

    async def _forget_unused(self, learner: _Learner, first_s: float) -> None:
        await learner.live.wait_unused(first_s, self._patience.after_detach_s)
        learner.is_watched = False
        learner.learned = tuple(each for each in learner.learned if each.mode is not Mode.ANY)
        self._schedule(learner, trio.current_time())


def _read(sighting: channel.Sighting) -> Sighting:
    server = None if sighting.server is None else IPv4Address(sighting.server)
    address = IPv4Address(sighting.address)
    return Sighting(Kind(sighting.kind), address, server, sighting.lease_s)


def _search_for(live: LiveVif) -> Search:
    """Return how the address of a vif that has a filter is looked for."""
    assert live.vif.filter is not None
    return Search.of(live.vif, given(live.vif.filter))


def _pace(learner: _Learner, begun: float, now: float) -> None:
    """Say from when on the filter may change again, which it just did from *begun* to *now*."""
    learner.changes.append(begun)
    learner.not_before = now + PARTS * (now - begun)
    if len(learner.changes) == MOST_CHANGES:
        learner.not_before = max(learner.not_before, learner.changes[0] + WITHIN_S)


def _words(learned: Iterable[Learned]) -> str:
    return " ".join(str(each.address) for each in learned)
