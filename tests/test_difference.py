"""The difference of two files, line by line."""

from collections.abc import Callable
from typing import Any

import pytest

from multiplexer.config import KEYS, parse_config
from multiplexer.difference import FIXED, difference, impossible, keys_of
from multiplexer.model import Config, Daemon, Grant, Mode, Network, StaticVif, Uplink, UplinkKind
from pfinet_proto.values import VifName

TEXT = """\
[daemon]
admins = ["ada", "@wheel"]
owner_uids = ["1000-1999", "3000"]

[uplink.wire]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/16"]

[network.lan]
uplink = "wire"
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
gateways = ["10.0.1.1"]
reserved = ["10.0.1.2-10.0.1.9"]
limits = { frames_per_s = 7 }

[network.island]
prefixes = ["192.168.0.0/24"]

[vif.web]
owner = "alice"
addresses = ["10.0.1.10/24"]

[grant.students]
to = ["@students"]
network = "lan"
addresses = ["10.0.1.64/26"]
"""


def config(text: str = TEXT) -> Config:
    return parse_config(text, "m.toml")


def lines(change: Callable[[str], str]) -> list[str]:
    """Return what is different after *change* to the text."""
    return [str(found) for found in difference(config(), config(change(TEXT)))]


def replaced(*pairs: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert text.count(old) == 1
            text = text.replace(old, new)
        return text

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (replaced(), []),
        (lambda text: "# a remark\n\n" + text, []),
        (
            replaced('admins = ["ada", "@wheel"]\n', "", '"3000"', '"3000-3005"'),
            [
                "daemon.admins: ada, @wheel -> none",
                "daemon.owner_uids: 1000-1999, 3000 -> 1000-1999, 3000-3005",
            ],
        ),
        (replaced('"eth0"', '"eth1"'), ["uplink.wire.interface: eth0 -> eth1"]),
        (
            replaced('uplink = "wire"\n', "mtu = 9000\nautoconf = false\n"),
            [
                "network.lan.uplink: wire -> not set",
                "network.lan.mtu: 1500 -> 9000",
                "network.lan.autoconf: true -> false",
            ],
        ),
        (
            replaced(
                "frames_per_s = 7",
                "frames_per_s = 8, copies_per_s = 0",
                '"10.0.1.2-',
                '"10.0.1.3-',
            ),
            [
                "network.lan.reserved: 10.0.1.2-10.0.1.9 -> 10.0.1.3-10.0.1.9",
                "network.lan.limits.frames_per_s: 7 -> 8",
                "network.lan.limits.copies_per_s: 50000 -> 0",
            ],
        ),
        (
            replaced('[network.island]\nprefixes = ["192.168.0.0/24"]\n', ""),
            ["network.island: removed"],
        ),
        (
            replaced("[vif.web]", "[vif.www]"),
            ["vif.web: removed", "vif.www: added"],
        ),
        (
            replaced(
                '"alice"\n',
                '"bob"\nroles = ["router", "dhcp-server"]\nlink-local = "first-come"\n'
                "ethertypes = [0x88cc]\ntrusted_tap = true\nlimits = { bytes_per_s = 5 }\n"
                'filter = "ports"\nparameters = { PORT = [80, 443] }\n',
                "10.0.1.10/24",
                "10.0.1.11/24",
            ),
            [
                "vif.web.owner: alice -> bob",
                "vif.web.addresses: 10.0.1.10/24 -> 10.0.1.11/24",
                "vif.web.limits.bytes_per_s: not set -> 5",
                "vif.web.roles: none -> dhcp-server, router",
                "vif.web.ethertypes: none -> 35020",
                "vif.web.link-local: not set -> first-come",
                "vif.web.trusted_tap: false -> true",
                "vif.web.filter: not set -> ports",
                "vif.web.parameters: none -> PORT=80, PORT=443",
            ],
        ),
        (
            replaced('"@students"', '"@students", "eve"'),
            ["grant.students.to: @students -> @students, eve"],
        ),
    ],
)
def test_each_difference_is_a_line_that_reads_like_the_file(
    change: Callable[[str], str], expected: list[str]
) -> None:
    assert lines(change) == expected


def test_the_order_of_tables_means_nothing() -> None:
    head, *tables = TEXT.split("\n[")

    assert lines(lambda _: "\n[".join([head, *reversed(tables)])) == []


def test_what_cannot_change_while_it_runs_is_named_with_its_line() -> None:
    new = config(TEXT.replace("[daemon]\n", '[daemon]\nrun_dir = "/run/other"\n'))
    changes = difference(config(), new)

    assert impossible(new, changes) == (
        "m.toml:2: daemon.run_dir: /run/multiplexer -> /run/other cannot be while the daemon"
        " runs: restart it",
    )


def test_what_was_taken_out_of_the_file_is_named_with_its_table() -> None:
    old = config(TEXT.replace("[daemon]\n", '[daemon]\nengine_user = "other"\n'))

    assert impossible(config(), difference(old, config())) == (
        "m.toml:1: daemon.engine_user: other -> multiplexer-engine cannot be while the daemon"
        " runs: restart it",
    )


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("daemon", Daemon()),
        ("uplink", Uplink("a", UplinkKind.NONE)),
        ("network", Network("a", Mode.SWITCH, None, ())),
        ("vif", StaticVif(VifName("a"), "1")),
        ("grant", Grant("a", (), "a", ())),
    ],
)
def test_every_key_of_the_file_is_compared(kind: str, table: Any) -> None:
    compared = {key[0] for key, _ in keys_of(table)}

    assert compared == set(KEYS[kind])


def test_what_is_fixed_are_keys_of_the_file() -> None:
    assert set(FIXED) < set(KEYS["daemon"])
