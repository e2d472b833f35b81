"""The engine's ports that the broker makes: the NICs', and the host's own.

Control is told how each is, the engine is given what it needs of it, and the
log says what has changed.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from multiplexer.daemon import audit, channel
from multiplexer.daemon.child import Child
from multiplexer.daemon.family import Family
from multiplexer.daemon.host_ports import HostOrders, describe_host, log_host
from multiplexer.daemon.succession import Committed, Succession
from multiplexer.model import Config, port_of_host, port_of_uplink
from multiplexer.uplinks.host_tap import HostTap, HostTaps
from multiplexer.uplinks.nic import LinkWatch, NicUplink


class Ports:
    """The ports of the file that is in force."""

    def __init__(
        self,
        succession: Succession,
        hosts: HostTaps,
        links: LinkWatch,
        family: Family,
        log: audit.Log,
    ) -> None:
        #: Of what the engine is told.
        self.numbers = itertools.count(1)
        self._succession = succession
        self._hosts = hosts
        self._host_orders = HostOrders()
        self._links = links
        self._family = family
        self._log = log

    @property
    def _nics(self) -> Sequence[NicUplink]:
        return self._succession.current.nics

    @property
    def are_stale(self) -> bool:
        """Whether the last `refresh` failed, and another may not."""
        return self._hosts.is_stale

    def refresh(self) -> None:
        """Look at all again, and tell what has changed."""
        for nic in self._nics:
            refresh = nic.refresh(self._links.socket)
            if refresh.changed:
                _log_uplink(self._log, nic)
                if self._family.control is not None:
                    self._family.say(self._family.control, state_of(nic))
                if self._family.engine is not None:
                    self._give_uplink(self._family.engine, nic, is_new=refresh.socket_is_new)
        self._hosts.refresh()
        self.tell_hosts()

    def reopen(self) -> None:
        """Begin with fresh sockets, for an engine that knows nothing of those before."""
        for nic in self._nics:
            nic.reopen(self._links.socket)

    def introduce(self, engine: Child) -> None:
        """Give a new engine its uplinks; the host's ports need networks, and come later."""
        self._host_orders = HostOrders()
        for nic in self._nics:
            self._give_uplink(engine, nic, is_new=True)

    def describe(self, control: Child) -> None:
        """Tell a new control of all."""
        for nic in self._nics:
            self._family.say(control, state_of(nic))
        for host in self._hosts:
            self._family.say(control, describe_host(host))

    def tell_hosts(self) -> None:
        """Tell of the host's ports that have changed."""
        control, engine = self._family.control, self._family.engine
        for host in self._hosts.take_changes():
            log_host(self._log, host)
            if control is not None:
                self._family.say(control, describe_host(host))
                # Else the engine does not have all of the file's networks yet.
                if engine is not None and control.ready and not self._succession.is_half_done:
                    self._give_host(engine, host)

    def give_hosts(self) -> None:
        """Give the engine all of the host's ports, now that control has told it of networks."""
        if self._family.engine is not None:
            for host in self._hosts:
                self._give_host(self._family.engine, host)

    def note_refusal(self) -> None:
        """Give a tap again with its next order: the engine may not have taken it."""
        self._host_orders.repeat()

    def follow(self, before: Config, committed: Committed) -> set[int]:
        """Be those of the file that has just followed *before*.

        Returns the numbers of what the engine was told and has yet to answer.
        """
        control, engine = self._family.control, self._family.engine
        orders: set[int] = set()
        gone = self._hosts.follow(self._succession.current.config.networks)
        if engine is not None:
            for order in self._farewells(before, committed.cleared, gone):
                self._family.say(engine, order)
                orders.add(order.request)
            for nic in committed.fresh:
                orders.add(self._give_uplink(engine, nic, is_new=True))
        if control is not None:
            for nic in committed.fresh:
                self._family.say(control, state_of(nic))
        self.refresh()
        return orders

    def _farewells(
        self, before: Config, uplinks: Iterable[int], hosts: Iterable[str]
    ) -> Iterator[channel.ClearUplink | channel.ClearVif]:
        for port in uplinks:
            yield channel.ClearUplink(next(self.numbers), port)
        for network in hosts:
            yield channel.ClearVif(next(self.numbers), port_of_host(before, network))

    def _give_uplink(self, engine: Child, nic: NicUplink, *, is_new: bool) -> int:
        """Tell *engine* of an uplink, and return the number of that order."""
        port = port_of_uplink(self._succession.current.config, nic.name)
        order = channel.SetUplink(next(self.numbers), port, nic.present, nic.up)
        self._family.say(engine, order, [nic.socket] if is_new and nic.socket is not None else [])
        return order.request

    def _give_host(self, engine: Child, host: HostTap) -> None:
        config = self._succession.current.config
        order, taps = self._host_orders.make(next(self.numbers), config, host)
        self._family.say(engine, order, taps)


def state_of(nic: NicUplink) -> channel.UplinkState:
    """Return the message that tells control how *nic* is."""
    last = nic.last
    mac, mtu = (last.mac, last.mtu) if last is not None else (None, None)
    return channel.UplinkState(nic.name, nic.present, nic.up, mac, mtu, nic.error)


def _log_uplink(log: audit.Log, nic: NicUplink) -> None:
    name = f'uplink "{nic.name}"'
    if nic.error is not None:
        log.warning(f"{name} is not used: {nic.error}")
    elif nic.link is None:
        log.warning(f'{name}: there is no interface "{nic.interface}"')
    else:
        log.info(f'{name}: interface "{nic.interface}" is {"up" if nic.up else "down"}')
