"""Change how a stack is configured, from inside it or from outside.

What a stack has is reached through descriptors that are opened inside: a
netlink socket, the directories with the settings of interfaces, its
resolv.conf.  The kernel asks both who opened them and who uses them for the
privilege, and the process that made the stack has it: the user namespace's
owner is privileged in it from outside (user_namespaces(7)).  So nobody has to
enter the stack to change it.
"""

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from pfinet_client import rtnetlink
from pfinet_client.configuration import (
    INTERFACE,
    Action,
    AddAddress,
    AddRoute,
    RemoveAddress,
    RemoveRoute,
    Route,
    SetLink,
    SetSysctl,
    StartLink,
    WriteNames,
)
from pfinet_client.resolv import rewrite_names

#: How the kernel says that things are as an action wants them already: the user
#: is root inside, and may have been faster.
_ALREADY = {
    AddAddress: (errno.EEXIST,),
    RemoveAddress: (errno.EADDRNOTAVAIL, errno.ENXIO),
    AddRoute: (errno.EEXIST,),
    RemoveRoute: (errno.ESRCH,),
}


#: What is opened beside the netlink socket, as far as it is there: a kernel may
#: lack IPv6.  Lookups below /proc/sys/net itself would lead to the caller's own.
_DIRECTORIES = {family: f"/proc/sys/net/{family}/conf" for family in ("ipv4", "ipv6")}
_RESOLV_CONF = "resolv.conf"


class Settings:
    """The settings of one stack, until `close`."""

    def __init__(self, index: int, route: rtnetlink.RouteSocket, files: dict[str, int]) -> None:
        """Take over what the other two constructors found."""
        self._index = index
        self._route = route
        self._files = files

    @classmethod
    def open_here(cls, resolv_conf: int | None) -> Self:
        """Open those of the caller's namespaces, in which the interface must be.

        *resolv_conf* is the file of that name, open for writing, if there is one;
        it is the object's own from now on.
        """
        files = {} if resolv_conf is None else {_RESOLV_CONF: resolv_conf}
        for family, path in _DIRECTORIES.items():
            with suppress(FileNotFoundError):
                files[family] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(socket.if_nametoindex(INTERFACE), rtnetlink.RouteSocket(), files)

    @classmethod
    def take(cls, text: str, descriptors: Sequence[int]) -> Self:
        """Take over what `give` of another process's object returned."""
        index, *names = text.split()
        route, *files = descriptors
        return cls(int(index), rtnetlink.RouteSocket(route), dict(zip(names, files, strict=True)))

    def give(self) -> tuple[str, tuple[int, ...]]:
        """Return a text and the descriptors by which another process can make the settings."""
        text = " ".join([str(self._index), *self._files])
        return text, (self._route.fileno(), *self._files.values())

    def apply(self, action: Action) -> None:
        """Do *action*; it is done, too, if there is nothing to do.

        Raises:
            OSError: if the kernel refuses; its filename says what.
        """
        try:
            self._do(action)
        except OSError as error:
            if error.errno not in _ALREADY.get(type(action), ()):
                raise OSError(error.errno, error.strerror, _subject(action)) from error

    def _do(self, action: Action) -> None:
        match action:
            case SetLink(mac, mtu):
                self._route.do(rtnetlink.link_change(self._index, mac=mac, mtu=mtu))
            case StartLink():
                self._route.do(rtnetlink.link_change(self._index, up=True))
            case SetSysctl(path, value):
                self._write_sysctl(path, value)
            case AddAddress(address):
                self._route.do(rtnetlink.address_add(self._index, address))
            case RemoveAddress(address):
                self._route.do(rtnetlink.address_remove(self._index, address))
            case AddRoute(Route(gateway, metric)):
                self._route.do(rtnetlink.default_route_add(self._index, gateway, metric))
            case RemoveRoute(Route(gateway, metric)):
                self._route.do(rtnetlink.default_route_remove(self._index, gateway, metric))
            case WriteNames(text):
                self._write_names(text)

    def _write_sysctl(self, path: str, value: str) -> None:
        family, _, below = path.partition("/conf/")
        if family not in self._files:
            return
        flags = os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(below, flags, dir_fd=self._files[family])
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def _write_names(self, text: str) -> None:
        descriptor = self._files.get(_RESOLV_CONF)
        if descriptor is None:
            return
        rewrite_names(descriptor, text)

    def close(self) -> None:
        """Close the descriptors."""
        self._route.close()
        for descriptor in self._files.values():
            os.close(descriptor)


def _subject(action: Action) -> str:
    match action:
        case AddAddress(address) | RemoveAddress(address):
            return f"address {address}"
        case AddRoute(route) | RemoveRoute(route):
            return f"route by {route.gateway}"
        case SetSysctl(path):
            return f"/proc/sys/net/{path}"
        case WriteNames():
            return "resolv.conf"
    return INTERFACE
