"""multiplexer.toml: what a right file means, and what is said of a wrong one."""

import re
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.config import KEYS, parse_config
from multiplexer.model import (
    AddressRange,
    Config,
    ConfigError,
    Daemon,
    FilterBinding,
    Grant,
    Limits,
    LinkLocal,
    Mode,
    Network,
    OwnLimits,
    Role,
    StaticVif,
    Trust,
    Uplink,
    UplinkKind,
)
from pfinet_proto.values import MacAddress, VifName

ROOT = Path(__file__).parents[1]

FULL = """\
[daemon]
run_dir = "/run/m"
state_dir = "/var/lib/m"
control_user = "20090"
engine_user = "engine"
admins = ["alice", "1000", "@wheel", "@10"]
owner_uids = ["1000-1999", "64055"]
queue_mib_per_user = 2
cpu = 3

[uplink.wire]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/16", "fd00:1::/48"]

[uplink.nowhere]
kind = "none"

[network.lan]
mode = "hub"
uplink = "wire"
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
gateways = ["10.0.1.1", "fd00:1::1"]
mtu = 9000
dns = ["10.0.0.53", "fd00:1::53"]
search = ["example.org", "lan"]
reserved = ["10.0.1.1-10.0.1.9", "10.0.1.16/28", "fd00:1::ff"]
autoconf = false
host = true
filter = "clean-traffic"
parameters = { GATEWAY_MAC = "52:54:00:00:00:01" }
link-local = "first-come"
limits = { frames_per_s = 1, bytes_per_s = 2, broadcast_per_s = 3 }

[network.island]
uplink = "nowhere"
prefixes = ["192.168.0.0/24"]

[vif.a-1]
owner = "alice"
network = "lan"
addresses = ["10.0.1.10/24", "fd00:1::10/64"]
prefixes = ["10.0.1.64/28"]
mac = "02:00:00:00:00:AA"
limits = { bytes_per_s = 0, copies_per_s = 4 }
roles = ["router", "dhcp-server"]
ethertypes = [0x88cc]
link-local = "eui64"
trusted_tap = true
filter = "web"
parameters = { PORT = [80, "443"], IP = "10.0.1.10" }

[vif.b]
owner = "1001"
addresses = ["192.168.0.2/24"]

[grant.students]
to = ["bob", "1002", "@students", "@20"]
network = "lan"
addresses = ["10.0.1.100-10.0.1.199", "fd00:1::1:0/112"]
vifs = 2
prefixes = true
addresses_per_vif = 16
limits = { frames_per_s = 5 }
filter = "web"
parameters = { PORT = [80, "443"] }

[grant.all]
to = ["@users"]
network = "island"
addresses = ["192.168.0.128/25"]
"""


def problems_of(text: str) -> list[str]:
    """Return what parse_config() says of *text*, which must be wrong."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "m.toml")
    return list(caught.value.problems)


def test_every_key_of_a_full_file_arrives_in_the_model() -> None:
    config = parse_config(FULL, "m.toml")

    lan = Network(
        name="lan",
        mode=Mode.HUB,
        uplink="wire",
        prefixes=(ip_network("10.0.1.0/24"), ip_network("fd00:1::/64")),
        gateways=(ip_address("10.0.1.1"), ip_address("fd00:1::1")),
        mtu=9000,
        dns=(ip_address("10.0.0.53"), ip_address("fd00:1::53")),
        search=("example.org", "lan"),
        reserved=(
            AddressRange(ip_address("10.0.1.1"), ip_address("10.0.1.9")),
            AddressRange(ip_address("10.0.1.16"), ip_address("10.0.1.31")),
            AddressRange(ip_address("fd00:1::ff"), ip_address("fd00:1::ff")),
        ),
        autoconf=False,
        host=True,
        filter=FilterBinding("clean-traffic", (("GATEWAY_MAC", ("52:54:00:00:00:01",)),)),
        limits=Limits(1, 2, 3),
        link_local=LinkLocal.FIRST_COME,
    )
    assert config == Config(
        daemon=Daemon(
            run_dir="/run/m",
            state_dir="/var/lib/m",
            control_user="20090",
            engine_user="engine",
            admins=("alice", "1000", "@wheel", "@10"),
            owner_uids=(range(1000, 2000), range(64055, 64056)),
            queue_mib_per_user=2,
            cpu=3,
        ),
        uplinks=(
            Uplink(
                "wire",
                UplinkKind.NIC,
                "eth0",
                (ip_network("10.0.0.0/16"), ip_network("fd00:1::/48")),
            ),
            Uplink("nowhere", UplinkKind.NONE),
        ),
        networks=(
            lan,
            Network("island", Mode.SWITCH, "nowhere", (ip_network("192.168.0.0/24"),)),
        ),
        vifs=(
            StaticVif(
                name=VifName("a-1"),
                owner="alice",
                network="lan",
                addresses=(ip_interface("10.0.1.10/24"), ip_interface("fd00:1::10/64")),
                prefixes=(ip_network("10.0.1.64/28"),),
                mac=MacAddress.parse("02:00:00:00:00:aa"),
                limits=OwnLimits(bytes_per_s=0, copies_per_s=4),
                trust=Trust(
                    frozenset({Role.ROUTER, Role.DHCP_SERVER}),
                    (0x88CC,),
                    LinkLocal.EUI64,
                    trusted_tap=True,
                ),
                filter=FilterBinding("web", (("IP", ("10.0.1.10",)), ("PORT", ("80", "443")))),
            ),
            StaticVif(
                name=VifName("b"),
                owner="1001",
                network="island",
                addresses=(ip_interface("192.168.0.2/24"),),
            ),
        ),
        grants=(
            Grant(
                name="students",
                to=("bob", "1002", "@students", "@20"),
                network="lan",
                addresses=(
                    AddressRange(ip_address("10.0.1.100"), ip_address("10.0.1.199")),
                    AddressRange(ip_address("fd00:1::1:0"), ip_address("fd00:1::1:ffff")),
                ),
                vifs=2,
                limits=OwnLimits(frames_per_s=5),
                prefixes=True,
                addresses_per_vif=16,
                filter=FilterBinding.of("web", {"PORT": ["80", "443"]}),
            ),
            Grant(
                name="all",
                to=("@users",),
                network="island",
                addresses=(
                    AddressRange(ip_address("192.168.0.128"), ip_address("192.168.0.255")),
                ),
            ),
        ),
    )


def test_an_empty_file_is_a_daemon_with_defaults_and_nothing_else() -> None:
    assert parse_config("", "m.toml") == Config()


def test_the_example_in_packaging_is_right_as_it_is_and_with_its_examples() -> None:
    text = (ROOT / "packaging" / "multiplexer.toml").read_text()

    assert parse_config(text, "m.toml").warnings == ()
    with_examples = re.sub(r"(?m)^#(?=[\[a-z_-]+)", "", text)
    config = parse_config(with_examples, "m.toml")
    assert [str(vif.name) for vif in config.vifs] == ["alice"]
    assert config.daemon.admins == ("alice", "@netadmin")
    assert config.daemon.run_dir == Daemon().run_dir
    for kind, keys in KEYS.items():
        missing = [key for key in keys if kind and f"{key} = " not in with_examples]
        assert set(missing) <= {"prefixes"} if kind == "vif" else not missing


LAN = """\
[uplink.wire]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/16", "fd00:1::/48"]
[network.lan]
uplink = "wire"
prefixes = ["10.0.1.0/24", "fd00:1::/64"]
gateways = ["10.0.1.1"]
reserved = ["10.0.1.2-10.0.1.9"]
"""

# The text is what follows LAN, which has nine lines; or a file of its own.
#: A vif whose next line is the sixth.
VIF = (
    "[network.lan]\nprefixes = ['10.0.1.0/24']\n"
    "[vif.v]\nowner = 'alice'\naddresses = ['10.0.1.5/24']\n"
)

WRONG = {
    # TOML
    "syntax": ("a = 1\nb =\n", "m.toml:2: not TOML: Invalid value in column 4"),
    "duplicate table": (
        "[daemon]\n[daemon]\n",
        "m.toml:2: not TOML: Cannot declare ('daemon',) twice in column 8",
    ),
    "end of text": ("a = '''\n\n", "m.toml:2: not TOML: Expected \"'''\" at the end"),
    "end of an empty line": ("a =", "m.toml:1: not TOML: Invalid value at the end"),
    # shape
    "unknown table": ("[deamon]\n", 'm.toml:1: deamon: unknown key, did you mean "daemon"?'),
    "unlike any table": (
        "[x]\n",
        'm.toml:1: x: unknown key, wanted "daemon", "uplink", "network", "vif" or "grant"',
    ),
    "unknown key": (
        "[daemon]\n\nrundir = 1\n",
        'm.toml:3: daemon.rundir: unknown key, did you mean "run_dir"?',
    ),
    "unknown key in an inline table": (
        LAN + "limits = {\tframes_per_sec = 1 }\n",
        'm.toml:10: network.lan.limits.frames_per_sec: unknown key, did you mean "frames_per_s"?',
    ),
    "no table": ("daemon = 5\n", "m.toml:1: daemon: 5, wanted a table"),
    "no tables": ("vif = []\n", "m.toml:1: vif: an array, wanted a table"),
    "no table of a name": ("network.lan = true\n", "m.toml:1: network.lan: true, wanted a table"),
    "no array": ("[daemon]\nadmins = 'a'\n", 'm.toml:2: daemon.admins: "a", wanted an array'),
    "no string": (
        "[daemon]\nrun_dir = {}\n",
        "m.toml:2: daemon.run_dir: a table, wanted a string",
    ),
    "name": (
        '[uplink."Wi Fi"]\nkind = "none"\n',
        'm.toml:1: uplink."Wi Fi": "Wi Fi" is no name,'
        " wanted 1 to 31 of a-z, 0-9 and -, the first not a -",
    ),
    "name of a vif": (
        LAN + "[vif.-]\nowner = '1'\naddresses = ['10.0.1.10/24']",
        'm.toml:10: vif.-: "-" is no name, wanted 1 to 31 of a-z, 0-9 and -, the first not a -',
    ),
    # [daemon]
    "relative directory": (
        "[daemon]\nrun_dir = 'run'",
        'm.toml:2: daemon.run_dir: "run", wanted an absolute path without . and ..',
    ),
    "directory with ..": (
        "[daemon]\nstate_dir = '/a/../b'",
        'm.toml:2: daemon.state_dir: "/a/../b", wanted an absolute path without . and ..',
    ),
    "directory with a newline": (
        '[daemon]\nstate_dir = "/a\\nb"',
        'm.toml:2: daemon.state_dir: "/a\\nb" has control characters, wanted none',
    ),
    "long run_dir": (
        f"[daemon]\nrun_dir = '/{'r' * 63}'",
        f'm.toml:2: daemon.run_dir: "/{"r" * 63}" is 64 bytes, wanted at most 63,'
        " since paths of sockets must fit below it",
    ),
    "no memory for queues": (
        "[daemon]\nqueue_mib_per_user = 0",
        "m.toml:2: daemon.queue_mib_per_user: 0, wanted an integer from 1 to 65536",
    ),
    "no processor": (
        "[daemon]\ncpu = -1",
        "m.toml:2: daemon.cpu: -1, wanted an integer from 0 to 8191",
    ),
    "one directory for both": (
        "[daemon]\nrun_dir = '/m'\nstate_dir = '/m'",
        'm.toml:3: daemon.state_dir: "/m" is run_dir too, wanted two directories',
    ),
    "root as a service user": (
        "[daemon]\ncontrol_user = 'root'",
        'm.toml:2: daemon.control_user: "root", wanted a user without privileges',
    ),
    "one user for both": (
        "[daemon]\ncontrol_user = '99'\nengine_user = '99'",
        'm.toml:3: daemon.engine_user: "99" is control_user too, wanted two users',
    ),
    "no user": (
        "[daemon]\nengine_user = 'a b'",
        'm.toml:2: daemon.engine_user: "a b", wanted a user name or a uid in digits',
    ),
    "no admin": (
        "[daemon]\nadmins = [\n'root',\n'@@x',\n]",
        'm.toml:4: daemon.admins: "@@x", wanted a user name, a uid in digits, or @ and a group',
    ),
    "uid as a number": (
        "[daemon]\nadmins = [1000]",
        "m.toml:2: daemon.admins: 1000, wanted a string",
    ),
    "no uid": (
        "[daemon]\nadmins = ['4294967295']",
        'm.toml:2: daemon.admins: "4294967295",'
        " wanted a user name, a uid in digits, or @ and a group",
    ),
    "no uid range": (
        "[daemon]\nowner_uids = ['9-1']",
        'm.toml:2: daemon.owner_uids: "9-1", wanted uids such as "1000-59999"',
    ),
    "the overflow uid": (
        "[daemon]\nowner_uids = ['1000-65535']",
        'm.toml:2: daemon.owner_uids: "1000-65535" has uid 65534, which is nobody\'s own',
    ),
    # [uplink]
    "no kind": (
        "[uplink.w]\ninterface = 'eth0'",
        'm.toml:1: uplink.w.kind: missing, wanted "nic" or "none"',
    ),
    "a later kind": (
        "[uplink.w]\nkind = 'tap'",
        'm.toml:2: uplink.w.kind: "tap" is not supported by this version, wanted "nic" or "none"',
    ),
    "an unknown kind": (
        "[uplink.w]\nkind = 'nik'",
        'm.toml:2: uplink.w.kind: "nik" is unknown, wanted "nic" or "none"',
    ),
    "no interface": (
        "[uplink.w]\nkind = 'nic'",
        "m.toml:1: uplink.w.interface: missing, wanted the name of the NIC",
    ),
    "interface of none": (
        "[uplink.w]\nkind = 'none'\ninterface = 'eth0'",
        'm.toml:3: uplink.w.interface: set, but an uplink of kind "none" has none',
    ),
    "long interface": (
        "[uplink.w]\nkind = 'nic'\ninterface = 'interface0123456'",
        'm.toml:3: uplink.w.interface: "interface0123456" is 16 bytes, wanted at most 15',
    ),
    "no name of an interface": (
        "[uplink.w]\nkind = 'nic'\ninterface = 'a/b'",
        'm.toml:3: uplink.w.interface: "a/b", wanted the name of an interface',
    ),
    "one NIC twice": (
        "[uplink.v]\nkind = 'nic'\ninterface = 'eth0'\n"
        "[uplink.w]\nkind = 'nic'\ninterface = 'eth0'",
        'm.toml:6: uplink.w.interface: "eth0" is that of uplink "v", wanted one of its own',
    ),
    "host bits": (
        "[uplink.w]\nkind = 'nic'\ninterface = 'eth0'\nexternal = ['10.0.0.1/8']",
        'm.toml:4: uplink.w.external: "10.0.0.1/8" has host bits set, wanted "10.0.0.0/8"',
    ),
    # [network]
    "a later mode": (
        LAN + "mode = 'vepa'",
        'm.toml:10: network.lan.mode: "vepa" is not supported by this version,'
        ' wanted "switch" or "hub"',
    ),
    "an unknown uplink": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\nuplink = 'wire'",
        'm.toml:3: network.a.uplink: no uplink is named "wire"',
    ),
    "a misspelt uplink": (
        LAN + "[network.b]\nprefixes = ['10.0.2.0/24']\nuplink = 'wier'",
        'm.toml:12: network.b.uplink: no uplink is named "wier", did you mean "wire"?',
    ),
    "two bridged networks": (
        LAN + "[network.b]\nprefixes = ['10.0.2.0/24']\nuplink = 'wire'",
        'm.toml:12: network.b.uplink: "wire" is bridged to network "lan", wanted one of its own',
    ),
    "no prefixes": (
        "[network.a]\n",
        "m.toml:1: network.a.prefixes: missing, wanted an IPv4 prefix, an IPv6 prefix or both",
    ),
    "a filter with an impossible name": (
        f"{VIF}filter = 'a/b'",
        "m.toml:6: vif.v.filter: 'a/b' is not a filter's name:"
        " 1 to 255 characters, none of control and no /",
    ),
    "parameters of a network without a filter": (
        "[network.a]\nprefixes = ['10.0.2.0/24']\nparameters = { PORT = 80 }",
        "m.toml:3: network.a.parameters: are for a filter, and none is given",
    ),
    "parameters without a filter": (
        f"{VIF}parameters = {{ PORT = 80 }}",
        "m.toml:6: vif.v.parameters: are for a filter, and none is given",
    ),
    "a parameter with an impossible name": (
        f"{VIF}filter = 'web'\n[vif.v.parameters]\nA-B = 80",
        "m.toml:8: vif.v.parameters.A-B: 'A-B' is not a parameter's name: letters, digits and _",
    ),
    "a parameter with an impossible value": (
        f"{VIF}filter = 'web'\nparameters = {{ NET = ['10.0.0.1', '10.0.0.0/8'] }}",
        "m.toml:7: vif.v.parameters.NET: '10.0.0.0/8' is not a parameter's value:"
        " letters, digits, _ . and :",
    ),
    "a parameter that is no text": (
        f"{VIF}filter = 'web'\nparameters = {{ ON = true }}",
        "m.toml:7: vif.v.parameters.ON: true, wanted a string or a number, or an array of them",
    ),
    "a parameter without a value": (
        f"{VIF}filter = 'web'\nparameters = {{ PORT = [] }}",
        "m.toml:7: vif.v.parameters.PORT: an empty array, wanted a value",
    ),
    "two prefixes of one family": (
        "[network.a]\nprefixes = ['10.0.0.0/24',\n '10.0.1.0/24']",
        "m.toml:3: network.a.prefixes: 10.0.1.0/24 is a second one of IPv4, wanted one",
    ),
    "a prefix without a length": (
        "[network.a]\nprefixes = ['10.0.0.0']",
        'm.toml:2: network.a.prefixes: "10.0.0.0" has no length,'
        ' wanted a prefix such as "10.0.1.0/24" or "fd00:1::/64"',
    ),
    "a netmask": (
        "[network.a]\nprefixes = ['10.0.0.0/255.0.0.0']",
        'm.toml:2: network.a.prefixes: "10.0.0.0/255.0.0.0",'
        ' wanted a prefix such as "10.0.1.0/24" or "fd00:1::/64"',
    ),
    "multicast prefix": (
        "[network.a]\nprefixes = ['ff00::/64']",
        "m.toml:2: network.a.prefixes: ff00::/64 has an address that is multicast",
    ),
    "prefix of everything": (
        "[network.a]\nprefixes = ['0.0.0.0/0']",
        "m.toml:2: network.a.prefixes: 0.0.0.0/0 has an address that is the unspecified address",
    ),
    "overlapping networks": (
        LAN + "[network.b]\nprefixes = ['10.0.0.0/20']",
        'm.toml:11: network.b.prefixes: 10.0.0.0/20 overlaps 10.0.1.0/24 of network "lan"',
    ),
    "gateway outside": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\ngateways = ['10.0.1.1']",
        "m.toml:3: network.a.gateways: 10.0.1.1 is outside the network, wanted it in 10.0.0.0/24",
    ),
    "gateway with a length": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\ngateways = ['10.0.0.1/24']",
        'm.toml:3: network.a.gateways: "10.0.0.1/24", wanted an address without a length',
    ),
    "gateway with a scope": (
        "[network.a]\nprefixes = ['fd00::/64']\ngateways = ['fd00::1%eth0']",
        'm.toml:3: network.a.gateways: "fd00::1%eth0" has a scope, wanted none',
    ),
    "two gateways of one family": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\ngateways = ['10.0.0.1', '10.0.0.2']",
        "m.toml:3: network.a.gateways: 10.0.0.2 is a second one of IPv4, wanted one",
    ),
    "gateway is the network address": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\ngateways = ['10.0.0.0']",
        "m.toml:3: network.a.gateways: 10.0.0.0 is the network address of 10.0.0.0/24",
    ),
    "gateway is the broadcast address": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\ngateways = ['10.0.0.255']",
        "m.toml:3: network.a.gateways: 10.0.0.255 is the broadcast address of 10.0.0.0/24",
    ),
    "gateway is anycast": (
        "[network.a]\nprefixes = ['fd00::/64']\ngateways = ['fd00::']",
        "m.toml:3: network.a.gateways: fd00:: is the subnet-router anycast address of fd00::/64",
    ),
    "mtu below": (
        LAN + "mtu = 575",
        "m.toml:10: network.lan.mtu: 575, wanted an integer from 576 to 9000",
    ),
    "mtu above": (
        LAN + "mtu = 9001",
        "m.toml:10: network.lan.mtu: 9001, wanted an integer from 576 to 9000",
    ),
    "mtu of no integer": (
        LAN + "mtu = true",
        "m.toml:10: network.lan.mtu: true, wanted an integer from 576 to 9000",
    ),
    "mtu below that of IPv6": (
        LAN + "mtu = 1279",
        "m.toml:10: network.lan.mtu: 1279, wanted 1280 to 9000, since the network has IPv6",
    ),
    "nine servers": (
        LAN + f"dns = {['10.0.0.53'] * 9}",
        "m.toml:10: network.lan.dns: 9 elements, wanted at most 8",
    ),
    "no domain": (
        LAN + "search = ['a..b']",
        'm.toml:10: network.lan.search: "a..b", wanted a domain name',
    ),
    "no range": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\nreserved = ['10.0.0.9-10.0.0.1']",
        'm.toml:3: network.a.reserved: "10.0.0.9-10.0.0.1" is no range,'
        ' wanted addresses such as "10.0.1.1-10.0.1.9", "10.0.1.0/28" or "10.0.1.1"',
    ),
    "no addresses": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\nreserved = ['all']",
        'm.toml:3: network.a.reserved: "all",'
        ' wanted addresses such as "10.0.1.1-10.0.1.9", "10.0.1.0/28" or "10.0.1.1"',
    ),
    "range outside": (
        "[network.a]\nprefixes = ['10.0.0.0/24']\nreserved = ['10.0.1.1']",
        "m.toml:3: network.a.reserved: 10.0.1.1 is outside the network, wanted it in 10.0.0.0/24",
    ),
    "host": (LAN + "host = 1", "m.toml:10: network.lan.host: 1, wanted true or false"),
    "host's interface": (
        LAN + 'host = true\n[uplink.own]\nkind = "nic"\ninterface = "mx-lan"\n',
        'm.toml:10: network.lan.host: its interface "mx-lan" would be that of uplink "own" too',
    ),
    "autoconf": (LAN + "autoconf = 1", "m.toml:10: network.lan.autoconf: 1, wanted true or false"),
    "rate": (
        LAN + "limits.frames_per_s = -1",
        "m.toml:10: network.lan.limits.frames_per_s: -1, wanted an integer from 0 to 8000000000",
    ),
    # [vif]
    "no owner": (
        LAN + "[vif.a]\naddresses = ['10.0.1.10/24']",
        "m.toml:10: vif.a.owner: missing, wanted a user name or a uid in digits",
    ),
    "no binding": (
        LAN + "[vif.a]\nowner = '1'",
        'm.toml:10: vif.a.addresses: vif "a" has no address and no prefix',
    ),
    "unknown network": (
        LAN + "[vif.a]\nowner = '1'\nnetwork = 'lam'\naddresses = ['10.0.1.10/24']",
        'm.toml:12: vif.a.network: no network is named "lam", did you mean "lan"?',
    ),
    "outside every network": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.2.10/24']",
        "m.toml:12: vif.a.addresses: address 10.0.2.10 is outside every network",
    ),
    "outside the network": (
        LAN + "[vif.a]\nowner = '1'\nnetwork = 'lan'\naddresses = [\n\n'10.0.2.10/24']",
        "m.toml:15: vif.a.addresses: address 10.0.2.10"
        ' is outside network "lan" (10.0.1.0/24 and fd00:1::/64)',
    ),
    "no address": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.1.10']",
        'm.toml:12: vif.a.addresses: "10.0.1.10" has no length,'
        ' wanted an address with a length such as "10.0.1.5/24" or "fd00:1::5/64"',
    ),
    "another length": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.1.10/16']",
        "m.toml:12: vif.a.addresses: address 10.0.1.10 has length /16,"
        ' wanted /24 as in network "lan"',
    ),
    "a reserved address": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.1.9/24']",
        "m.toml:12: vif.a.addresses: address 10.0.1.9"
        ' is in the reserved range 10.0.1.2-10.0.1.9 of network "lan"',
    ),
    "no mac": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.1.10/24']\nmac = '52-54-00-12-34-56'",
        "m.toml:13: vif.a.mac: '52-54-00-12-34-56' is not a MAC address such as 52:54:00:12:34:56",
    ),
    "group mac": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.1.10/24']\nmac = '01:00:5e:00:00:01'",
        "m.toml:13: vif.a.mac: MAC 01:00:5e:00:00:01 is a group address",
    ),
    "duplicate address": (
        LAN + "[vif.a]\nowner = '1'\naddresses = ['10.0.1.10/24']\n"
        "[vif.b]\nowner = '1'\naddresses = ['10.0.1.10/24']",
        'm.toml:15: vif.b.addresses: address 10.0.1.10 is that of vif "a"',
    ),
    "address in a prefix": (
        LAN + "[vif.a]\nowner = '1'\nprefixes = ['10.0.1.16/28']\n"
        "[vif.b]\nowner = '1'\naddresses = ['10.0.1.17/24']",
        'm.toml:15: vif.b.addresses: address 10.0.1.17 overlaps prefix 10.0.1.16/28 of vif "a"',
    ),
    "duplicate mac": (
        LAN + "[vif.a]\nowner = '1'\nmac='02:00:00:00:00:01'\naddresses = ['10.0.1.10/24']\n"
        "[vif.b]\nowner = '1'\nmac='02:00:00:00:00:01'\naddresses = ['10.0.1.11/24']",
        'm.toml:16: vif.b.mac: MAC 02:00:00:00:00:01 is that of vif "a"',
    ),
}


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_once_with_file_line_and_key(text: str, problem: str) -> None:
    assert problems_of(text) == [problem]


def test_all_errors_of_a_file_are_found_and_stand_in_the_order_of_its_lines() -> None:
    text = """\
[vif.a]
owner = 5
network = "b"
mac = "no"
[network.b]
mtu = 1
prefixes = ["10.0.0.0/24"]
gateways = ["10.0.0.0"]
[uplink.c]
kind = "nic"
[daemon]
oops = 1
"""

    found = [problem.split(": ")[:2] for problem in problems_of(text)]

    assert found == [
        ["m.toml:2", "vif.a.owner"],
        ["m.toml:4", "vif.a.mac"],
        ["m.toml:6", "network.b.mtu"],
        ["m.toml:8", "network.b.gateways"],
        ["m.toml:9", "uplink.c.interface"],
        ["m.toml:12", "daemon.oops"],
    ]


@pytest.mark.parametrize("naming", ['network = "b"\n', ""])
def test_nothing_is_said_of_a_vif_because_its_network_is_wrong(naming: str) -> None:
    """One mistake is one message: the vif will be right once the network is."""
    text = f"""\
[network.b]
prefixes = ["10.0.0.0/24"]
uplink = "gone"
[vif.a]
owner = "alice"
{naming}addresses = ["10.0.0.2/24"]
"""

    assert problems_of(text) == ['m.toml:3: network.b.uplink: no uplink is named "gone"']


def test_nothing_is_said_of_a_network_because_its_uplink_is_wrong() -> None:
    text = '[uplink.w]\nkind = "nic"\n[network.a]\nuplink = "w"\nprefixes = ["10.0.0.0/24"]\n'

    assert problems_of(text) == [
        "m.toml:1: uplink.w.interface: missing, wanted the name of the NIC"
    ]


def test_a_network_outside_the_external_network_is_legal_isolated_and_warned_of() -> None:
    text = LAN + '[network.b]\nuplink = "wire"\nprefixes = ["192.168.0.0/24"]\n'

    config = parse_config(text, "m.toml")

    assert config.uplink_port_of(config.network("b")) is None
    assert config.warnings == (
        'm.toml:12: network.b.prefixes: not all in the external network of uplink "wire"'
        " (10.0.0.0/16 and fd00:1::/48), so the network is isolated",
    )


def test_a_network_on_an_uplink_without_an_external_network_is_warned_of() -> None:
    text = '[uplink.w]\nkind = "nic"\ninterface = "e"\n'
    text += '[network.a]\nuplink = "w"\nprefixes = ["10.0.0.0/24"]\n'

    (warning,) = parse_config(text, "m.toml").warnings

    assert warning.startswith("m.toml:6: network.a.prefixes: not all in the external network")


def test_networks_in_any_number_share_an_uplink_that_leads_nowhere() -> None:
    text = '[uplink.w]\nkind = "none"\n'
    for number in range(3):
        text += f'[network.n{number}]\nuplink = "w"\nprefixes = ["10.0.{number}.0/24"]\n'

    assert parse_config(text, "m.toml").warnings == ()


@pytest.mark.parametrize(
    ("ethertype", "what"),
    [
        (0x0800, "IPv4, which every vif may send"),
        (0x0806, "ARP, which every vif may send"),
        (0x86DD, "IPv6, which every vif may send"),
        (0x8100, "a VLAN tag, which no vif may send"),
        (0x88A8, "a VLAN tag, which no vif may send"),
    ],
)
def test_an_ethertype_that_would_make_no_difference_is_refused(ethertype: int, what: str) -> None:
    text = '[network.lan]\nprefixes = ["10.0.1.0/24"]\n[vif.v]\nowner = "alice"\n'
    text += f'addresses = ["10.0.1.5/24"]\nethertypes = [0x88cc, {ethertype:#06x}]\n'

    assert problems_of(text) == [f"m.toml:6: vif.v.ethertypes: {ethertype:#06x} is {what}"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("to = []", "to: missing, wanted users, uids or @ and groups"),
        ('to = ["@"]', 'to: "@", wanted a user name, a uid in digits, or @ and a group'),
        ('network = "lam"', 'network: no network is named "lam", did you mean "lan"?'),
        ("addresses = []", "addresses: missing, wanted addresses of the network"),
        (
            'addresses = ["10.0.1.250-10.0.2.3"]',
            "addresses: 10.0.1.250-10.0.2.3 is not all in the network,"
            " wanted it in 10.0.1.0/24 or fd00:1::/64",
        ),
        ("prefixes = 1", "prefixes: 1, wanted true or false"),
        ("addresses_per_vif = 17", "addresses_per_vif: 17, wanted an integer from 1 to 16"),
        ("vifs = 0", "vifs: 0, wanted an integer from 1 to 3776"),
        ("limits = { copies_per_s = -1 }", "copies_per_s: -1, wanted an integer"),
        ("filter = 1", "filter: 1, wanted"),
        ("parameters = { PORT = 80 }", "parameters: are for a filter, and none is given"),
    ],
)
def test_a_grant_that_cannot_be_is_refused_with_its_line(line: str, problem: str) -> None:
    lines = {
        "to": 'to = ["alice"]',
        "network": 'network = "lan"',
        "addresses": 'addresses = ["10.0.1.128/25"]',
    }
    lines[line.split(" = ")[0]] = line
    text = '[network.lan]\nprefixes = ["10.0.1.0/24", "fd00:1::/64"]\n[grant.g]\n'
    number = 4 + list(lines).index(line.split(" = ")[0])

    (found,) = problems_of(text + "\n".join(lines.values()))

    assert found.startswith(f"m.toml:{number}: grant.g.")
    assert problem in found


def test_what_a_grant_must_say_is_missed() -> None:
    text = '[network.lan]\nprefixes = ["10.0.1.0/24"]\n[grant.g]\n'

    assert [problem.split(": ")[1] for problem in problems_of(text)] == [
        "grant.g.network",
        "grant.g.to",
        "grant.g.addresses",
    ]


def test_a_grant_in_a_network_that_is_wrong_says_no_more() -> None:
    text = '[network.lan]\nmode = "x"\nprefixes = ["10.0.1.0/24"]\n[grant.g]\nto = ["alice"]\n'
    text += 'network = "lan"\naddresses = ["10.9.9.9"]\n'

    assert len(problems_of(text)) == 1


def test_the_gateway_of_a_point_to_point_network_may_be_its_first_address() -> None:
    """A /31 has no network address (RFC 3021), a /127 no anycast address (RFC 6164)."""
    text = '[network.a]\nprefixes = ["10.0.0.0/31", "fd00::/127"]\n'
    text += 'gateways = ["10.0.0.0", "fd00::"]\n'

    assert len(parse_config(text, "m.toml").network("a").gateways) == 2


def test_a_file_with_one_table_more_than_the_datapath_has_room_for_is_refused() -> None:
    text = "".join(f'[network.n{i}]\nprefixes = ["10.0.{i}.0/24"]\n' for i in range(256))
    uplinks = "".join(f'[uplink.u{i}]\nkind = "nic"\ninterface = "e{i}"\n' for i in range(64))

    assert len(parse_config(text, "m.toml").networks) == 256
    assert len(parse_config(uplinks, "m.toml").uplinks) == 64
    assert problems_of(text + '[network.more]\nprefixes = ["10.1.0.0/24"]\n') == [
        "m.toml:513: network.more: one too many, wanted at most 256 networks"
    ]
    assert problems_of(uplinks + '[uplink.more]\nkind = "nic"\ninterface = "more"\n') == [
        "m.toml:194: uplink.more.kind: one too many, wanted at most 64 NICs"
    ]


@given(st.text(st.sampled_from("[]{}=.,\"'#\n\\ abv1/:-")) | st.text())
def test_no_text_ends_parsing_but_with_a_config_or_a_config_error(text: str) -> None:
    problems: tuple[str, ...] | None = None
    try:
        parse_config(text, "m.toml")
    except ConfigError as error:
        problems = error.problems

    assert problems is None or problems
    assert all(re.match(r"m\.toml:\d+: .", problem) for problem in problems or ())


def test_a_text_nested_beyond_reason_is_a_config_error() -> None:
    assert problems_of(f"a = {'[' * 5000}{']' * 5000}") == [
        "m.toml:1: arrays are nested too deeply"
    ]


@given(st.data())
def test_one_value_of_another_type_is_an_error_in_its_line_and_no_crash(
    data: st.DataObject,
) -> None:
    lines = FULL.splitlines()
    number = data.draw(st.sampled_from([n for n, line in enumerate(lines) if " = " in line]))
    key = lines[number].split(" = ")[0]
    value = data.draw(
        st.sampled_from(["1.5", "1979-05-27", "[[]]", "[{}]", "{ x = [[]] }", "[1]"])
    )
    lines[number] = f"{key} = {value}"

    problems = problems_of("\n".join(lines))

    assert any(problem.startswith(f"m.toml:{number + 1}: ") for problem in problems)


# ---- the manual page ----

PAGE = (ROOT / "man" / "multiplexer.toml.5").read_text()


def keys_of_page() -> dict[str, tuple[str, ...]]:
    """Return the keys that each subsection of the page tells of, by the kind of table."""
    found = {}
    for section in re.split(r"(?m)^\.S[sh] ", PAGE)[1:]:
        kind = re.match(r"\[?([a-z]+)", section.lower())
        keys = tuple(re.findall(r"(?m)^\.It Ic ([\w-]+)$", section))
        if kind is not None and keys:
            found[kind[1]] = keys
    return found


def test_the_page_tells_of_every_key_and_of_no_other() -> None:
    assert keys_of_page() == {kind: keys for kind, keys in KEYS.items() if kind}


def test_the_page_gives_the_default_of_every_key_that_is_not_required() -> None:
    for entry in re.split(r"(?m)^\.It Ic ", PAGE)[1:]:
        key, text = entry.split("\n", 1)
        about = text.split("\n.El")[0]
        assert "Default:" in about or "\nRequired" in text or key == "limits", key


def test_the_pages_defaults_are_the_models() -> None:
    daemon, network = Daemon(), Network("a", Mode.SWITCH, None, ())
    defaults = {
        "run_dir": daemon.run_dir,
        "state_dir": daemon.state_dir,
        "control_user": daemon.control_user,
        "engine_user": daemon.engine_user,
        "mode": network.mode.value,
        "mtu": network.mtu,
        "frames_per_s": network.limits.frames_per_s,
        "bytes_per_s": network.limits.bytes_per_s,
        "broadcast_per_s": network.limits.broadcast_per_s,
        "copies_per_s": network.limits.copies_per_s,
    }

    for key, value in defaults.items():
        entry = PAGE.split(f"\n.It Ic {key}\n", 1)[1]
        default = re.search(r"Default:(?: |\n\.(?:Pa|Ql) )(\S+?)(?: ?\.)?\n", entry)
        assert default is not None, key
        assert default[1] == str(value), key
    assert daemon.owner_uids == (range(1000, 60000),)
    assert "1000-59999" in PAGE


def examples_of_page() -> list[str]:
    blocks = re.findall(r"(?ms)^\.Bd -literal.*?\n(.*?)^\.Ed$", PAGE)
    return [block for block in blocks if block.startswith("[")]


@pytest.mark.parametrize("example", examples_of_page())
def test_an_example_of_the_page_is_right_and_gives_no_warning(example: str) -> None:
    assert parse_config(example, "m.toml").warnings == ()


def test_the_page_has_examples_and_shows_errors_as_they_are() -> None:
    text = """\
[uplink.lan]
kind = "tap"
[network.lan]
prefixes = ["10.0.1.0/24"]
gateways = ["10.0.2.1"]
"""

    with pytest.raises(ConfigError) as caught:
        parse_config(text, "multiplexer.toml")

    assert len(examples_of_page()) == 4
    assert f"\n{caught.value}\n.Ed" in PAGE


def test_an_endless_integer_is_an_error_with_its_line() -> None:
    """Python refuses to read it, and tomllib does not turn that into an error of its own."""
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[daemon]\n\nrun_dir = {'9' * 5000}\n", "f.toml")

    assert caught.value.problems == ("f.toml:3: an integer of more than 4300 digits",)
