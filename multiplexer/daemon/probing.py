"""Whether somebody on the wire has an address already, before a vif gets it.

The engine sends in the vif's name what its stack would send to ask, and the
answer of a station that has the address is an address conflict of the vif's
port, as it would be at any other time.  So all that is needed for this is
there anyway, and neither control nor the engine can send more than the vif.

Drafts have no limit of their own, and whoever may make vifs may make many, so
what is sent is paced for all of them together.  Questions go to the wire alone:
that no vif here has the address is known.  Announcements go to all, and each
costs the engine a copy for every vif.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Final

import attrs
import trio

from multiplexer.daemon.broker_client import BrokerClient
from multiplexer.daemon.engine_client import EngineClient
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.live_vif import LiveVif
from multiplexer.model import Network
from multiplexer.probes import announcements, askable, questions
from pfinet_proto.values import IPAddress, MacAddress

# A station that is there answers within some milliseconds; the first question may be
# lost, as where an Ethernet switch has yet to learn.
ROUNDS: Final = 3
LOOKS: Final = 5
LOOK_S: Final = 0.03

# How many frames at a time, and how long it is until the next ones.
QUESTIONS_AT_ONCE: Final = 8
QUESTIONS_PAUSE_S: Final = 0.002
ANNOUNCEMENTS_AT_ONCE: Final = 1
ANNOUNCEMENTS_PAUSE_S: Final = 0.01

#: How long, and of how many addresses at most, an answer is remembered.
REMEMBERED_S: Final = 600.0
MOST_REMEMBERED: Final = 1024


@attrs.frozen
class Holder:
    """A station on the wire, and the address that it has."""

    address: IPAddress
    mac: MacAddress


@attrs.frozen
class _Pace:
    """*at_once* frames are sent at a time, with *pause_s* between, whoever sends them."""

    at_once: int
    pause_s: float
    _turn: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def wait(self) -> None:
        async with self._turn:
            await trio.sleep(self.pause_s)


class Prober:
    """Asks the wire for the addresses of vifs that are drafts."""

    def __init__(self, in_force: InForce, broker: BrokerClient, engine: EngineClient) -> None:
        self._in_force = in_force
        self._broker = broker
        self._engine = engine
        self._answered_s: OrderedDict[tuple[str, IPAddress], float] = OrderedDict()
        self._asking = _Pace(QUESTIONS_AT_ONCE, QUESTIONS_PAUSE_S)
        self._announcing = _Pace(ANNOUNCEMENTS_AT_ONCE, ANNOUNCEMENTS_PAUSE_S)

    def answered(self) -> Iterator[IPAddress]:
        """Yield the addresses that were in use on the wire not long ago."""
        now_s = trio.current_time()
        for (_, address), at_s in self._answered_s.items():
            if now_s - at_s < REMEMBERED_S:
                yield address

    async def find_holder(self, live: LiveVif) -> Holder | None:
        """Return a station that has an address of the draft *live*, if one answers.

        It takes half a second, and no time where the network has no wire.

        Raises:
            RequestFailed: if the engine does not do it, or the file has changed meanwhile.
        """
        network = self._in_force.config.network(live.vif.network)
        if not self._is_on_wire(network):
            return None
        asked = questions(live.vif.mac, askable(live.vif.addresses, live.vif.prefixes))
        for _ in range(ROUNDS):
            await self._send(live, asked, self._asking, to_wire=True)
            for _ in range(LOOKS):
                await trio.sleep(LOOK_S)
                # The port may be another vif's by now.
                live.check_wanted()
                for found in (await self._engine.read_counters(live.port, 1)).conflicts:
                    if found.address is not None:
                        holder = Holder(ip_address(found.address), found.mac)
                        self._remember(network.name, holder.address)
                        return holder
        return None

    async def announce(self, live: LiveVif) -> None:
        """Let neighbours forget who had the addresses of *live* before.

        Raises:
            RequestFailed: as find_holder().
        """
        told = announcements(live.vif.mac, [address.ip for address in live.vif.addresses])
        await self._send(live, told, self._announcing)

    async def _send(
        self, live: LiveVif, frames: Sequence[bytes], pace: _Pace, *, to_wire: bool = False
    ) -> None:
        for start in range(0, len(frames), pace.at_once):
            await pace.wait()
            live.check_wanted()
            part = frames[start : start + pace.at_once]
            await self._engine.inject(live.port, part, to_wire=to_wire)

    def _is_on_wire(self, network: Network) -> bool:
        if network.uplink is None or self._in_force.config.uplink_port_of(network) is None:
            return False
        state = self._broker.uplink(network.uplink)
        return state is not None and state.present and state.up

    def _remember(self, network: str, address: IPAddress) -> None:
        self._answered_s[network, address] = trio.current_time()
        self._answered_s.move_to_end((network, address))
        if len(self._answered_s) > MOST_REMEMBERED:
            self._answered_s.popitem(last=False)
