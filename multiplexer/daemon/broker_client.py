"""Control's side of its channel with the broker."""

import socket
from collections.abc import Iterable, Sequence

import attrs
import trio

from multiplexer.daemon import channel, channel_trio
from multiplexer.daemon.calls import SiblingCalls
from multiplexer.daemon.fdstore import told_apart
from multiplexer.daemon.rings import NoRing, RingEnd
from pfinet_proto.values import IPNetwork, MacAddress


@attrs.frozen
class Inherited:
    """An attachment of an earlier control, and the connection of a client that has one.

    *ring* is what an earlier engine has served, if another has not yet.
    """

    kept: channel.Kept
    sockets: tuple[socket.socket, ...]
    ring: RingEnd | None = None


def _inherited(message: channel.Inherited, fds: Sequence[int]) -> Inherited:
    try:
        sockets, ring = told_apart(fds, has_ring=message.adrift)
    except (NoRing, OSError) as error:
        raise channel.SiblingError(f"broker sends an attachment: {error}") from None
    return Inherited(message.kept, sockets, ring)


class BrokerClient:
    """What control asks of the broker, and what the broker says by itself."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._calls = SiblingCalls(sock, "broker")
        self._uplinks: dict[str, channel.UplinkState] = {}
        self._uplink_known = trio.Event()
        #: Set when the administrator asks by a signal; whoever does it makes it anew.
        self.reload_asked = trio.Event()
        self._inherited: list[Inherited] = []
        self._inherited_more = trio.Event()
        self._hosts: dict[str, channel.HostPort] = {}

    async def receive_start(self) -> channel.Start:
        """Return the first message on the channel, before `run`.

        Raises:
            SiblingError: if it is another.
        """
        message, _ = await channel_trio.receive(self._sock)
        if not isinstance(message, channel.Start):
            raise channel.SiblingError(f"broker starts with {type(message).__name__}")
        return message

    async def run(self) -> None:
        """Read the channel until it ends.

        Raises:
            SiblingGone: if the broker is.
            SiblingError: if it sends what it must not.
        """
        try:
            while True:
                message, fds = await channel_trio.receive(self._sock)
                match message:
                    case channel.Done() | channel.ReloadPrepared():
                        self._calls.answer(message, fds)
                    case channel.ReloadAsked():
                        self.reload_asked.set()
                    case channel.UplinkState():
                        self._uplinks[message.uplink] = message
                        self._uplink_known.set()
                        self._uplink_known = trio.Event()
                    case channel.Inherited():
                        self._inherited.append(_inherited(message, fds))
                        self._inherited_more.set()
                        self._inherited_more = trio.Event()
                    case channel.HostPort():
                        self._hosts[message.network] = message
                    case _:
                        raise channel.SiblingError(f"broker sends {type(message).__name__}")
        finally:
            self._calls.close()

    def uplink(self, name: str) -> channel.UplinkState | None:
        """Return the last known state of a nic uplink."""
        return self._uplinks.get(name)

    def host(self, network: str) -> channel.HostPort | None:
        """Return the last known state of the host's port in *network*."""
        return self._hosts.get(network)

    def nic_macs(self) -> dict[str, MacAddress]:
        """Return the MAC of each nic uplink whose NIC was ever seen, by the uplink's name."""
        return {name: state.mac for name, state in self._uplinks.items() if state.mac is not None}

    async def wait_uplinks(self, names: Iterable[str]) -> None:
        """Wait until the state of each of the nic uplinks *names* is known."""
        for name in names:
            while name not in self._uplinks:
                await self._uplink_known.wait()

    async def wait_inherited(self, count: int) -> list[Inherited]:
        """Return the *count* attachments that the broker kept of an earlier control."""
        while len(self._inherited) < count:
            await self._inherited_more.wait()
        return self._inherited

    async def open_vif_sockets(
        self, vif_id: str, uid: int, kinds: Sequence[str]
    ) -> list[socket.socket]:
        """Return a listening socket for each of *kinds*, in their order.

        Raises:
            RequestFailed: if the broker refuses.
        """
        _, fds = await self._calls.call(
            lambda number: channel.OpenVifSockets(number, vif_id, uid, tuple(kinds))
        )
        if len(fds) != len(kinds):
            channel.close_all(fds)
            raise channel.SiblingError(f"broker sends {len(fds)} sockets for {len(kinds)} kinds")
        return channel.as_sockets(fds)

    async def close_vif_sockets(self, vif_id: str) -> None:
        """Let the broker remove the sockets of a vif.

        Raises:
            RequestFailed: if it cannot.
        """
        await self._calls.call(lambda number: channel.CloseVifSockets(number, vif_id))

    async def keep(
        self, kept: channel.Kept, sockets: Sequence[socket.socket], ring: RingEnd | None = None
    ) -> None:
        """Let the broker have what the next control needs to go on with an attachment.

        With *ring*, so can the next engine.

        Raises:
            RequestFailed: if the broker refuses.
        """
        fds = [sock.fileno() for sock in sockets]
        await self._calls.call(
            lambda number: channel.Keep(number, kept), fds if ring is None else [*fds, *ring.fds]
        )

    async def forget(self, vif_id: str) -> None:
        """Let the broker close what it keeps for a vif, if it does."""
        await self._calls.call(lambda number: channel.Forget(number, vif_id))

    async def set_memberships(self, uplink: str, macs: Iterable[MacAddress]) -> None:
        """Let the NIC of *uplink* receive for exactly *macs*.

        Raises:
            RequestFailed: if it cannot.
        """
        await self._calls.call(
            lambda number: channel.SetMemberships(number, uplink, tuple(sorted(macs)))
        )

    async def change_host_routes(
        self, network: str, *, add: Iterable[IPNetwork] = (), drop: Iterable[IPNetwork] = ()
    ) -> None:
        """Let the host reach the prefixes *add* over its port in *network*, and *drop* no more.

        Raises:
            RequestFailed: if the broker refuses.
        """
        more, less = tuple(map(str, add)), tuple(map(str, drop))
        await self._calls.call(
            lambda number: channel.ChangeHostRoutes(number, network, more, less)
        )

    async def prepare_reload(self) -> channel.ReloadPrepared:
        """Let the broker read the file again; `end_reload` must follow.

        Raises:
            RequestFailed: if another reload is not ended.
        """
        answer, _ = await self._calls.call(channel.PrepareReload)
        if not isinstance(answer, channel.ReloadPrepared):
            raise channel.SiblingError(f"broker answers PrepareReload with {answer!r:.80}")
        return answer

    async def commit_reload(self) -> None:
        """Let the broker go by the file that it has read.

        Raises:
            RequestFailed: if it cannot.
        """
        await self._calls.call(channel.CommitReload)

    async def end_reload(self) -> None:
        """Say that a reload is over, whether it was committed or not."""
        await self._calls.call(channel.EndReload)

    async def ready(self) -> None:
        """Say that control serves."""
        await self._calls.tell(channel.Ready())
