"""What a stack is made of, as far as it can be told without making one."""

import errno
import os
import socket
import struct
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from pfinet_client import rtnetlink
from pfinet_client.idmap import Extent, extents, parse_grants
from pfinet_client.netns import why_forbidden
from pfinet_client.resolv import Plan, plan
from pfinet_proto.values import MacAddress

# Netlink, read back by pyroute2.


def decoded(form: type[Any], request: rtnetlink.Request) -> Any:
    length = 16 + len(request.body)
    message = form(struct.pack("=IHHII", length, request.kind, 0, 0, 0) + request.body)
    message.decode()
    return message


def test_a_link_change_carries_what_is_given_and_nothing_else() -> None:
    mac = MacAddress.parse("52:54:00:12:34:56")

    up = decoded(ifinfmsg, rtnetlink.link_change(7, up=True))
    both = decoded(ifinfmsg, rtnetlink.link_change(7, mac=mac, mtu=9000))

    assert (up["index"], up["flags"], up["change"], up["attrs"]) == (7, 1, 1, [])
    assert (both["flags"], both["change"]) == (0, 0)
    assert dict(both["attrs"]) == {"IFLA_ADDRESS": str(mac), "IFLA_MTU": 9000}


def test_an_ipv4_address_has_its_broadcast_address() -> None:
    added = decoded(ifaddrmsg, rtnetlink.address_add(7, ip_interface("10.9.0.5/24")))

    assert (added["family"], added["prefixlen"], added["index"]) == (socket.AF_INET, 24, 7)
    assert dict(added["attrs"]) == {
        "IFA_LOCAL": "10.9.0.5",
        "IFA_ADDRESS": "10.9.0.5",
        "IFA_BROADCAST": "10.9.0.255",
    }


@pytest.mark.parametrize("length", [31, 32])
def test_a_prefix_without_room_for_a_broadcast_address_has_none(length: int) -> None:
    added = decoded(ifaddrmsg, rtnetlink.address_add(7, ip_interface(f"10.9.0.5/{length}")))

    assert "IFA_BROADCAST" not in dict(added["attrs"])


def test_an_ipv6_address_is_added_without_duplicate_detection() -> None:
    added = decoded(ifaddrmsg, rtnetlink.address_add(7, ip_interface("fd09::5/64")))

    assert (added["family"], added["prefixlen"]) == (socket.AF_INET6, 64)
    assert dict(added["attrs"])["IFA_FLAGS"] == 0x02


@pytest.mark.parametrize("gateway", ["10.9.0.1", "fd09::1"])
def test_a_default_route_is_on_link(gateway: str) -> None:
    added = decoded(rtmsg, rtnetlink.default_route_add(7, ip_address(gateway), 1024))

    assert (added["dst_len"], added["table"], added["flags"]) == (0, 254, 4)
    assert dict(added["attrs"]) == {"RTA_GATEWAY": gateway, "RTA_OIF": 7, "RTA_PRIORITY": 1024}


def test_what_is_removed_is_named_as_it_was_added() -> None:
    address, gateway = ip_interface("10.9.0.5/24"), ip_address("fd09::1")

    gone = decoded(ifaddrmsg, rtnetlink.address_remove(7, address))
    route = decoded(rtmsg, rtnetlink.default_route_remove(7, gateway, 1024))

    assert (gone["header"]["type"], gone["prefixlen"], gone["index"]) == (21, 24, 7)
    assert dict(gone["attrs"])["IFA_LOCAL"] == "10.9.0.5"
    assert route["header"]["type"] == 25
    assert dict(route["attrs"]) == {"RTA_GATEWAY": "fd09::1", "RTA_OIF": 7, "RTA_PRIORITY": 1024}


def test_a_request_that_the_kernel_refuses_raises_its_error() -> None:
    why = os.strerror(errno.ENODEV)
    with rtnetlink.RouteSocket() as route, pytest.raises(OSError, match=why):
        route.do(rtnetlink.link_change(0x7FFFFFF, up=True))


# Names.


def test_a_plain_resolv_conf_is_covered_by_itself_and_etc_is_not() -> None:
    assert plan("/etc/resolv.conf", frozenset({"/etc", "/run/nscd"}), True) == Plan(
        ("/run/nscd",), (), "/etc/resolv.conf"
    )


def test_a_link_to_systemd_resolved_is_covered_with_its_directory() -> None:
    directory = "/run/systemd/resolve"

    assert plan(f"{directory}/stub-resolv.conf", frozenset({directory}), True) == Plan(
        (directory,), ((directory, "resolv.conf"), (directory, "stub-resolv.conf")), None
    )


def test_a_link_into_another_daemons_directory_is_covered_with_it() -> None:
    directory = "/run/NetworkManager"

    assert plan(f"{directory}/resolv.conf", frozenset({directory}), True) == Plan(
        (directory,), ((directory, "resolv.conf"),), None
    )


def test_a_target_right_in_run_is_covered_by_itself() -> None:
    assert plan("/run/resolv.conf", frozenset({"/run"}), True) == Plan((), (), "/run/resolv.conf")


def test_a_missing_resolv_conf_is_not_covered() -> None:
    assert plan("/etc/resolv.conf", frozenset({"/etc"}), False) == Plan((), (), None)


# Users.

GRANTS = """\
alice:100000:65536
bob:200000:65536
20001:300000:10
alice:many:65536
alice:400000
alice:500000:0

"""


def test_grants_are_found_by_name_and_by_uid_and_malformed_ones_skipped() -> None:
    assert parse_grants(GRANTS, ("alice", "20001")) == ((100000, 65536), (300000, 10))
    assert parse_grants(GRANTS, ("carol", "20002")) == ()


def test_granted_ids_follow_root_without_a_gap() -> None:
    assert extents(20001, ((100000, 65536), (300000, 10))) == (
        Extent(0, 20001, 1),
        Extent(1, 100000, 65536),
        Extent(65537, 300000, 10),
    )


# What the system may forbid.


@pytest.mark.parametrize(
    ("code", "sysctl", "value", "found"),
    [
        (errno.EPERM, "kernel/unprivileged_userns_clone", "0", "unprivileged_userns_clone=1"),
        (errno.EPERM, "kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor"),
        (errno.EPERM, "kernel/none", "", "seccomp"),
        (errno.ENOSPC, "user/max_user_namespaces", "0", "max_user_namespaces to 0"),
        (errno.ENOSPC, "user/max_net_namespaces", "0", "max_net_namespaces to 0"),
        (errno.ENOSPC, "user/max_user_namespaces", "9", "too many namespaces"),
        (errno.EINVAL, "kernel/none", "", "built without"),
        (errno.ENOMEM, "kernel/none", "", "Cannot allocate memory"),
    ],
)
def test_why_namespaces_are_forbidden_names_the_setting(
    code: int, sysctl: str, value: str, found: str
) -> None:
    assert found in why_forbidden(code, {sysctl: value}.get)
