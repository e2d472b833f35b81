"""What GNU/Hurd's eth-multiplexer cannot do or does wrong, and we must not.

Its source (hurd/eth-multiplexer, 2008 and since) is the list; of each, one test
shows that it is not so here.  Those of other files are named with theirs.

 1  Each frame goes to every interface: everybody sees everything.
    test_traffic: test_tcpdump_sees_no_unicast_of_others
 2  No source is checked, of no layer.
    test_attacks: test_a_forged_frame_is_dropped_and_counted
 3  Its filter on the NIC takes IPv4 and ARP: IPv6 never arrives.
    test_traffic: test_ping_is_answered
 4  What two guests say to each other is on the wire as well.
    test_traffic: test_nothing_of_two_users_talk_is_on_the_wire
 5  The NIC is promiscuous, and what comes from it goes to all.
    test_nic: test_a_nic_that_can_filter_does_not_become_promiscuous
    test_uplink: test_unicast_from_the_wire_for_others_reaches_nobody
 6  device_open() does not look at the mode that the node was opened with.
    test_attachment: test_the_sockets_of_a_vif_open_to_its_owner_alone
 7  Whoever opens a device that has a client shares its frames.
    test_attachment: test_a_second_client_of_the_stream_socket_is_closed
 8  Everybody may list everybody's devices.
    test_attachment: test_a_user_lists_only_what_is_his
 9  A name that is opened becomes a device: for ever, and any number of them.
    test_a_name_that_is_asked_for_does_not_become_a_vif
    test_grants: test_a_user_of_two_grants_is_told_why_neither_gives
10  No length is checked: below a header it is negative, above 1500 it overflows.
    test_a_frame_of_any_length_costs_its_sender_alone
11  Names are cut after 15 bytes, so that two of them are one device.
    test_a_long_name_is_kept_or_refused_and_never_cut
12  An address is a hash of the name, and nobody looks whether another has it.
    test_no_two_vifs_have_one_mac_however_it_was_chosen
13  The status of every device tells the address of the NIC.
    test_each_stack_is_told_its_own_mac_and_not_the_nics
14  The list of devices is walked without its lock: a removal ends in freed memory.
    test_vifs_come_and_go_while_broadcasts_are_delivered
15  A receiver that is dead or slow holds up those behind it.
    test_fairness: test_a_client_that_does_not_read_loses_frames_of_its_own_alone
16  Each failed delivery is a line on the console.
    test_frames_that_are_dropped_write_no_line_of_the_log
17  A filter rule that it does not know, or that is too long, is silently not enforced.
    test_a_rule_that_cannot_be_enforced_is_refused
18  ARP passes every filter.
    test_attacks: test_a_forged_frame_is_dropped_and_counted
    test_wire: test_a_claim_to_the_address_of_a_user_is_dropped_and_shown
19  Any EtherType and any tag goes out.
    test_roles: test_each_may_send_what_it_is_trusted_with_and_nothing_else
    test_wire: test_a_tagged_frame_is_dropped
20  The MTU is 1500, whatever the NIC has.
    test_mtu: test_a_full_frame_of_9000_bytes_arrives
21  The NIC is opened once, at the start.
    test_nic: test_a_nic_may_come_after_the_daemon
    test_nic: test_a_nic_that_was_deleted_is_used_again
"""

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.lan import OWNERS, Lan
from tests.support.plain import Refused, StreamClient, connected
from tests.support.waiting import eventually

from .attacks import lawful

HERE = Path(__file__).parent
POINTERS = re.findall(r"^    (?:(test_\w+): )?(test_\w+)$", __doc__ or "", re.M)

OWNER = "20010"
#: Two names of 31 bytes, the longest there may be, which differ in the last one.
LONG = ("a" * 30 + "1", "a" * 30 + "2")


def create(lan: Lan, name: str, number: int, **more: Any) -> dict[str, Any]:
    addresses = [f"10.77.0.{number}/24"]
    # With force, since nobody has them, and to be sure of that takes half a second each.
    made: dict[str, Any] = lan.lab.ask(
        "vif.create", name=name, owner=OWNER, addresses=addresses, force=True, **more
    )
    return made


def delete(lan: Lan, *names: str) -> None:
    for name in names:
        lan.lab.ask("vif.delete", name=name)


def names(lan: Lan) -> list[str]:
    return [vif["name"] for vif in lan.lab.ask("vif.list")["vifs"]]


def test_there_are_21_and_each_has_a_test() -> None:
    numbers = re.findall(r"^ ?(\d+)  \S", __doc__ or "", re.M)
    own = Path(__file__).stem

    assert list(map(int, numbers)) == list(range(1, 22))
    assert len(POINTERS) >= 21
    for file, test in POINTERS:
        source = (HERE / f"{file or own}.py").read_text()
        assert re.search(rf"^def {test}\(", source, re.M), f"{file or own} has no {test}"


def test_a_name_that_is_asked_for_does_not_become_a_vif(lan: Lan) -> None:
    before = names(lan)

    for uid in (0, OWNERS["bob"], 20077):
        for op in ("vif.show", "vif.locate", "vif.delete"):
            with pytest.raises(Refused):
                lan.lab.ask(op, uid=uid, name="of-nobody")
        with pytest.raises(FileNotFoundError):
            connected(lan.lab.run_dir / "vif" / ("0" * 32) / "stream", uid)

    assert names(lan) == before


def test_a_frame_of_any_length_costs_its_sender_alone(lan: Lan) -> None:
    """Around each length at which something else begins, over both kinds of bare socket."""
    edges = (2, 14, 34, 60, 64, 1500, 1514, 4096, 65535)
    lengths = {edge + step for edge in edges for step in (-1, 0, 1)}
    trudy, bob = lan.members["trudy"], lan.members["bob"]
    sign = b"<alive>"
    engine = lan.daemon.processes()["engine"]
    for kind in ("stream", "bess"):
        path = lan.lab.socket_of("trudy", kind)
        frames = [bytes(lawful(trudy, bob, b"")).ljust(n, b".")[:n] for n in sorted(lengths)]
        frames.append(bytes(lawful(trudy, bob, sign)))
        if kind == "stream":
            with StreamClient(path, OWNERS["trudy"]) as client:
                client.send(frames)
                lan.listeners["bob"].frames_until(sign)
        else:
            with connected(path, OWNERS["trudy"], socket.SOCK_SEQPACKET) as sock:
                for frame in frames:
                    sock.send(frame)
                lan.listeners["bob"].frames_until(sign)
        eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy has left")

    drops = lan.drops("trudy")
    assert drops["runt"] == 2 * len([n for n in lengths if n < 14])
    assert drops["oversize"] == 2 * len([n for n in lengths if n > 1514])
    assert lan.daemon.processes()["engine"] == engine


def test_a_long_name_is_kept_or_refused_and_never_cut(lan: Lan) -> None:
    made = [create(lan, name, number) for number, name in enumerate(LONG, start=100)]

    with pytest.raises(Refused, match="bad_request"):
        create(lan, "a" * 32, 102)

    assert [vif["name"] for vif in made] == list(LONG)
    assert set(LONG) <= set(names(lan))
    delete(lan, LONG[0])
    assert LONG[0] not in names(lan)
    assert lan.vif(LONG[1])["id"] == made[1]["id"]
    delete(lan, LONG[1])


def test_no_two_vifs_have_one_mac_however_it_was_chosen(lan: Lan) -> None:
    """Nor one of the same name that was there before, which somebody may still remember."""
    with pytest.raises(Refused, match="conflict"):
        create(lan, "twin", 110, mac=lan.members["alice"].mac)

    for number in range(20):
        create(lan, f"many-{number}", 120 + number)
    macs = [vif["mac"] for vif in lan.lab.ask("vif.list")["vifs"]]
    delete(lan, *(f"many-{number}" for number in range(20)))

    assert len(set(macs)) == len(macs)
    assert "twin" not in names(lan)


def test_each_stack_is_told_its_own_mac_and_not_the_nics(lan: Lan) -> None:
    nic = lan.lab.ask("uplink.show", name="wire")["mac"]
    told = {name: stack.mac.hex(":") for name, stack in lan.stacks.items()}

    assert told == {name: lan.members[name].mac for name in lan.stacks}
    assert len({nic, *told.values()}) == len(told) + 1


def test_vifs_come_and_go_while_broadcasts_are_delivered(lan: Lan) -> None:
    engine = lan.daemon.processes()["engine"]
    trudy, bob = lan.members["trudy"], lan.members["bob"]
    with StreamClient(lan.lab.socket_of("trudy", "stream"), OWNERS["trudy"]) as client:
        for number in range(25):
            marks = [f"<{when} {number}>".encode() for when in ("with", "without")]
            create(lan, "passing", 140)
            path = lan.lab.socket_of("passing", "stream")
            with StreamClient(path, int(OWNER)):
                client.send([bytes(lawful(trudy, bob, marks[0]))] * 8)
                delete(lan, "passing")
                client.send([bytes(lawful(trudy, bob, marks[1]))] * 8)
            for mark in marks:
                assert mark in lan.listeners["bob"].frames_until(mark)[-1]

    assert lan.daemon.processes()["engine"] == engine
    assert "passing" not in names(lan)
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy has left")


def test_frames_that_are_dropped_write_no_line_of_the_log(lan: Lan) -> None:
    forged = bytes(lawful(lan.members["alice"], lan.members["bob"], b"<forged>"))
    before = lan.drops("trudy").get("src_mac", 0)
    with StreamClient(lan.lab.socket_of("trudy", "stream"), OWNERS["trudy"]) as client:
        eventually(
            lambda: "vif=trudy kind=stream" in lan.daemon.log.read_text().splitlines()[-1],
            "the log has it that trudy is attached",
        )
        lines = len(lan.daemon.log.read_text().splitlines())
        client.send([forged] * 5000)
        eventually(lambda: lan.drops("trudy").get("src_mac", 0) == before + 5000, "all dropped")

        written = lan.daemon.log.read_text().splitlines()[lines:]
        assert [line for line in written if "audit: attached" not in line] == []
    eventually(lambda: lan.vif("trudy")["attached"] is None, "trudy has left")


@pytest.mark.parametrize(
    "trust",
    [
        {"roles": ["bridge"]},
        {"ethertypes": [0x88B5 + number for number in range(9)]},
        {"ethertypes": [60]},
        {"link_local": "any"},
    ],
    ids=["unknown role", "too many", "a length", "unknown word"],
)
def test_a_rule_that_cannot_be_enforced_is_refused(lan: Lan, trust: dict[str, object]) -> None:
    with pytest.raises(Refused, match=r"bad_request|invalid"):
        create(lan, "ruled", 150, trust=trust)

    assert "ruled" not in names(lan)
