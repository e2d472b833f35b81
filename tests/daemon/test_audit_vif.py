"""What the audit log says of a vif: whatever one may be trusted for is in it."""

from ipaddress import ip_interface, ip_network

from multiplexer.daemon.audit import format_event
from multiplexer.daemon.audit_vif import fields_of
from multiplexer.model import LinkLocal, OwnLimits, Role, Trust, Vif
from pfinet_proto.values import MacAddress, VifName

PLAIN = Vif(
    id="0" * 32,
    name=VifName("web"),
    owner_uid=1001,
    owner_name=None,
    network="lan",
    mac=MacAddress.parse("52:54:00:00:00:01"),
    addresses=(ip_interface("10.0.0.5/24"),),
)


def test_a_plain_vif_is_its_binding_and_its_owner() -> None:
    assert format_event("vif-created", fields_of(PLAIN)) == (
        "vif-created name=web uid=1001 network=lan mac=52:54:00:00:00:01 bound=10.0.0.5/24"
    )


def test_trust_and_limits_are_told() -> None:
    trust = Trust(
        frozenset({Role.ROUTER, Role.DHCP_SERVER}), (0x88CC,), LinkLocal.FIRST_COME, True
    )
    vif = Vif(
        id=PLAIN.id,
        name=PLAIN.name,
        owner_uid=1001,
        owner_name="alice",
        network="lan",
        mac=PLAIN.mac,
        prefixes=(ip_network("10.0.0.16/28"),),
        limits=OwnLimits(frames_per_s=0, copies_per_s=9),
        trust=trust,
        grant="some",
        ephemeral=True,
    )

    assert format_event("vif-changed", fields_of(vif)) == (
        "vif-changed name=web owner=alice uid=1001 network=lan mac=52:54:00:00:00:01"
        " bound=10.0.0.16/28 roles=dhcp-server,router ethertypes=0x88cc link_local=first-come"
        " trusted_tap=yes frames_per_s=0 copies_per_s=9 grant=some ephemeral=yes"
    )
