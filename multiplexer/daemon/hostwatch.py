"""The host's own addresses while the daemon runs: who of the vifs has one of them too.

No vif is made for an address of the host, but the host may get one that a vif
has.  Neither is then taken away, since nobody knows here whose it should be: it
is logged, and shown with the vif.
"""

import errno
import socket
from typing import Final

import trio

from multiplexer.binding import claims, host_prefix
from multiplexer.daemon.audit import Log
from multiplexer.daemon.host import Host
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.roster import Roster
from multiplexer.model import Vif
from pfinet_proto.values import IPAddress

#: Between two looks: a router's advertisements renew addresses all the time.
PACE_S: Final = 0.5

#: After the kernel could not tell: it is short of memory, or we are of descriptors.
LOOK_AGAIN_S: Final = 5.0

READ_BYTES: Final = 65536


class HostWatch:
    """Knows which addresses the host has in the networks of vifs."""

    def __init__(self, in_force: InForce, host: Host, roster: Roster, log: Log) -> None:
        self._in_force = in_force
        self._host = host
        self._roster = roster
        self._log = log
        self._addresses: tuple[IPAddress, ...] = ()
        #: What was logged, and is not over: names of vifs, and addresses.
        self._known: set[tuple[str, IPAddress]] = set()

    def conflicts(self, vif: Vif) -> tuple[IPAddress, ...]:
        """Return the addresses of *vif* that the host has too."""
        networks = {network.name: network for network in self._in_force.config.networks}
        network = networks.get(vif.network)
        if network is None:  # the file has just changed
            return ()
        inside = [each for each in self._addresses if network.covers(host_prefix(each))]
        if not inside:
            return ()
        bound = claims(network, vif, vif.mac)
        return tuple(each for each in inside if any(claim.touches(each) for claim in bound))

    async def run(self) -> None:
        """Look now, and after each change, until cancelled; where the kernel fails us, again."""
        while True:
            try:
                await self._follow()
            except OSError as error:
                self._log.warning(f"cannot see the host's addresses: {error.strerror}")
            await trio.sleep(LOOK_AGAIN_S)

    async def _follow(self) -> None:
        with self._host.open_address_news() as news:
            while True:
                self._addresses = tuple(await self._host.addresses())
                self._tell()
                await _read_all(news)
                await trio.sleep(PACE_S)

    def _tell(self) -> None:
        found = {
            (str(live.name), address)
            for live in self._roster
            for address in self.conflicts(live.vif)
        }
        for name, address in sorted(found - self._known, key=str):
            self._log.audit("host-conflict", name=name, address=address)
        for name, address in sorted(self._known - found, key=str):
            self._log.audit("host-conflict-over", name=name, address=address)
        self._known = found


async def _read_all(news: socket.socket) -> None:
    """Wait until there are news, and skip all that there are; what they say is asked for anew."""
    await trio.lowlevel.wait_readable(news)
    while True:
        try:
            news.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # some were lost, which is news as well
                raise
