"""What only the system knows: users and groups, and the host's own addresses.

Each question may wait for a name service or the kernel, so it is asked in a
thread, a few at a time: who has many questions waits for his own.
"""

import contextlib
import grp
import pwd
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import attrs
import trio

from multiplexer.daemon.authorize import Caller, HostFacts, Owner
from multiplexer.daemon.in_force import InForce
from multiplexer.daemon.peer import Peer
from multiplexer.model import Config
from multiplexer.uplinks.rtnetlink import RouteSocket
from pfinet_proto.values import IPAddress, MacAddress

MAX_THREADS: Final = 4

# include/uapi/linux/rtnetlink.h
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV6_IFADDR: Final = 0x100

T = TypeVar("T")


@attrs.frozen
class System:
    """What is asked of the system: one function for each question, any of which may wait.

    *user_name* is None for a uid without a name, *user_uid* and *group_gid*
    are for a name that there is not.  *address_news* opens a socket that can be read
    when *addresses* may have changed.
    """

    user_name: Callable[[int], str | None]
    user_uid: Callable[[str], int | None]
    group_gid: Callable[[str], int | None]
    addresses: Callable[[], tuple[IPAddress, ...]]
    address_news: Callable[[], socket.socket]


def user_name(uid: int) -> str | None:
    """Return the name of *uid*."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def user_uid(name: str) -> int | None:
    """Return the uid of the user *name*."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def group_gid(name: str) -> int | None:
    """Return the gid of the group *name*."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def addresses() -> tuple[IPAddress, ...]:
    """Return every address of every interface."""
    with contextlib.closing(RouteSocket()) as netlink:
        return tuple(netlink.all_addresses())


def address_news() -> socket.socket:
    """Return a socket on which the kernel tells of each change of an address.

    Who has no privileges may listen to that as well (netlink(7)).
    """
    news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    news.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    return news


THIS_SYSTEM: Final = System(user_name, user_uid, group_gid, addresses, address_news)


@attrs.frozen
class Client:
    """Who asks: as the kernel says, and what the system knows of it."""

    peer: Peer
    caller: Caller


class Host:
    """The system, for tasks that must not wait in it."""

    def __init__(self, in_force: InForce, system: System = THIS_SYSTEM) -> None:
        self._in_force = in_force
        self._system = system
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._named_uids: frozenset[int] = frozenset()
        self._named_gids: frozenset[int] = frozenset()

    async def caller(self, peer: Peer) -> Caller:
        """Return *peer* with the names that it has, of groups those that the file names."""
        return await self._ask(self._caller, peer)

    async def facts(self, owners: Iterable[str], nic_macs: Mapping[str, MacAddress]) -> HostFacts:
        """Return what judging vifs of *owners* takes."""
        return await self._ask(self._facts, tuple(owners), nic_macs)

    async def recall_named(self) -> None:
        """Ask for the numbers of those whom the file names, for `is_named`."""
        entries = _named_in(self._in_force.config)
        self._named_uids, self._named_gids = await self._ask(self._numbers, entries)

    def is_named(self, peer: Peer) -> bool:
        """Whether the file named *peer* when that was last asked for, among admins or in a grant.

        A process in a subordinate uid may still have the groups of its user, so
        by a group is named only who may own a vif.
        """
        may_own = any(peer.uid in uids for uids in self._in_force.config.daemon.owner_uids)
        return peer.uid in self._named_uids or (may_own and bool(self._named_gids & peer.gids))

    async def addresses(self) -> tuple[IPAddress, ...]:
        """Return every address of the host."""
        return await self._ask(self._system.addresses)

    def open_address_news(self) -> socket.socket:
        """Return a socket that can be read when the host's addresses may have changed."""
        return self._system.address_news()

    async def _ask(self, question: Callable[..., T], *about: object) -> T:
        return await trio.to_thread.run_sync(question, *about, limiter=self._threads)

    def _caller(self, peer: Peer) -> Caller:
        named = _groups_of(self._in_force.config)
        groups = {name for name in named if self._system.group_gid(name) in peer.gids}
        return Caller(
            peer.uid, peer.gid, self._system.user_name(peer.uid), peer.gids, frozenset(groups)
        )

    def _numbers(self, entries: Iterable[str]) -> tuple[frozenset[int], frozenset[int]]:
        uids, gids = set[int](), set[int]()
        for entry in entries:
            if entry.startswith("@"):
                numbers, name, ask = gids, entry[1:], self._system.group_gid
            else:
                numbers, name, ask = uids, entry, self._system.user_uid
            number = int(name) if name.isdigit() else ask(name)
            if number is not None:
                numbers.add(number)
        return frozenset(uids), frozenset(gids)

    def _facts(self, owners: Iterable[str], nic_macs: Mapping[str, MacAddress]) -> HostFacts:
        users = {}
        for owner in owners:
            uid = None if owner.isdigit() else self._system.user_uid(owner)
            if uid is not None:
                users[owner] = Owner(uid, owner)
        return HostFacts(self._system.addresses(), nic_macs, users)


def _groups_of(config: Config) -> set[str]:
    """Return the groups that the file names."""
    named = _named_in(config)
    return {entry[1:] for entry in named if entry.startswith("@") and not entry[1:].isdigit()}


def _named_in(config: Config) -> list[str]:
    return [*config.daemon.admins, *(entry for grant in config.grants for entry in grant.to)]
