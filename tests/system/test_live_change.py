"""A running network is changed, and who is not meant loses nothing."""

import json
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pfinet_client.attachment import Attachment, connect_attach
from pfinet_proto.attach import Goodbye, GoodbyeCode, Hello, Update
from tests.support.lab import Stack
from tests.support.lan import OWNERS, Lan, Member
from tests.support.plain import StreamClient, acting_as
from tests.support.programs import ping
from tests.support.waiting import eventually

from .attacks import lawful

CAROL, DAVE = 20011, 20012
BATCH = 20


class Transfer(threading.Thread):
    """Datagrams from trudy to bob, a batch after the other, until it is told to end."""

    def __init__(self, lan: Lan) -> None:
        super().__init__()
        self._lan = lan
        # Here, since the uid to connect as is the whole process's for the moment.
        self._client = StreamClient(lan.lab.socket_of("trudy", "stream"), OWNERS["trudy"])
        self._ending = threading.Event()
        self.turning = threading.Event()
        self.lost: int | None = None

    def run(self) -> None:
        lost = sent = 0
        with self._client as client:
            last_round = False
            while not last_round:
                last_round = self._ending.is_set()
                marks = [f"<datagram {sent + n}>".encode() for n in range(BATCH)]
                client.send(self._frame(mark) for mark in marks)
                sent += BATCH
                frames = self._lan.listeners["bob"].frames_until(marks[-1])
                lost += sum(not any(mark in frame for frame in frames) for mark in marks)
                self.turning.set()
        self.lost = lost

    def _frame(self, mark: bytes) -> bytes:
        bob = self._lan.members["bob"]
        frame = lawful(self._lan.members["trudy"], bob, mark)
        frame.dst = bob.mac  # broadcasts have a limit
        return bytes(frame)

    def end(self) -> None:
        """End after a whole batch more."""
        self._ending.set()
        self.join()


@contextmanager
def nothing_lost(lan: Lan) -> Iterator[None]:
    """Have a transfer go on, and not one frame of it be lost."""
    transfer = Transfer(lan)
    transfer.start()
    try:
        assert transfer.turning.wait(20)
        yield
    finally:
        transfer.end()
    assert transfer.lost == 0


@pytest.fixture
def carol(lan: Lan) -> Iterator[str]:
    """A vif of the uid CAROL."""
    lan.lab.multiplexerctl(
        *("vif", "create", "carol", "--owner", str(CAROL), "--address", "10.77.0.50/24")
    )
    yield "carol"
    lan.lab.multiplexerctl("vif", "delete", "carol")


def attached(lan: Lan, vif: str, uid: int) -> Attachment:
    path = str(lan.lab.socket_of(vif, "attach"))
    with acting_as(uid):
        return connect_attach(path, Hello(), 20)


def last_word(attachment: Attachment) -> Update | Goodbye | None:
    """Return the next message of the daemon, and detach."""
    select.select([attachment.sock], [], [], 20)
    message = attachment.receive_nowait()
    attachment.close()
    return message


def test_a_changed_address_holds_at_once_for_the_same_client(lan: Lan, carol: str) -> None:
    mac = lan.vif(carol)["mac"]
    before, after = (Member(mac, f"10.77.0.{last}", "fd77::50") for last in (50, 51))
    bob = lan.members["bob"]
    with nothing_lost(lan), StreamClient(lan.lab.socket_of(carol, "stream"), CAROL) as client:
        client.send([bytes(lawful(before, bob, b"<before>"))])
        eventually(lambda: lan.vif(carol)["counters"]["rx_frames"] == 1, "the first frame is in")
        lan.lab.multiplexerctl("vif", "set", carol, "--address", "10.77.0.51/24")
        client.send([bytes(lawful(before, bob, b"<old>")), bytes(lawful(after, bob, b"<new>"))])
        eventually(lambda: lan.vif(carol)["counters"]["rx_frames"] == 3, "all frames are in")
        shown = lan.vif(carol)

    assert shown["counters"]["drops"] == {"ipv4_src": 1}
    assert shown["attached"]["uid"] == CAROL


def test_a_client_of_the_attach_socket_is_told_its_new_addresses(lan: Lan, carol: str) -> None:
    attachment = attached(lan, carol, CAROL)
    lan.lab.multiplexerctl("vif", "set", carol, "--add-address", "fd77::50/64")
    eventually(lambda: attachment.receive_nowait is not None, "told")
    message = last_word(attachment)

    assert isinstance(message, Update)
    assert [str(address) for address in message.binding.addresses] == [
        "10.77.0.50/24",
        "fd77::50/64",
    ]


def test_a_running_stack_becomes_what_its_vif_has_become(lan: Lan, carol: str) -> None:
    with lan.lab.user(CAROL).stack(carol) as stack:
        assert ping(stack, "10.77.0.1")

        lan.lab.multiplexerctl(
            *("vif", "set", carol, "--mac", "52:54:00:77:00:51"),
            *("--address", "10.77.0.51/24", "--address", "fd77::51/64"),
        )

        wanted = {"10.77.0.51/24", "fd77::51/64", "fe80::5054:ff:fe77:51/64"}
        eventually(lambda: addresses(stack) == wanted, "the stack has its new addresses")
        assert ping(stack, "10.77.0.1", "-I", "10.77.0.51")
        assert ping(stack, "fd77::1", "-I", "fd77::51")
        assert set(lan.vif(carol)["counters"]["drops"]) <= {"ipv4_src", "src_mac", "arp_sender"}


def addresses(stack: Stack) -> set[str]:
    (link,) = json.loads(stack.run("ip", "-j", "address", "show", stack.interface).stdout)
    return {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"]}


def test_a_stack_whose_vif_is_given_away_is_disconnected(lan: Lan, carol: str) -> None:
    with lan.lab.user(CAROL).stack(carol) as stack:
        lan.lab.multiplexerctl("vif", "set", carol, "--owner", str(DAVE))

        assert stack.process.wait(20) != 0


def test_another_owner_takes_over_and_the_former_ones_client_ends(lan: Lan, carol: str) -> None:
    path = lan.lab.socket_of(carol, "stream")
    attachment = attached(lan, carol, CAROL)
    with nothing_lost(lan):
        lan.lab.multiplexerctl("vif", "set", carol, "--owner", str(DAVE))
    goodbye = last_word(attachment)

    assert isinstance(goodbye, Goodbye)
    assert goodbye.code is GoodbyeCode.OWNER_CHANGED
    with pytest.raises(PermissionError):
        StreamClient(path, CAROL)
    frame = lawful(
        Member(lan.vif(carol)["mac"], "10.77.0.50", "fd77::50"), lan.members["bob"], b"<dave>"
    )
    with StreamClient(path, DAVE) as client:
        client.send([bytes(frame)])
        lan.listeners["bob"].frames_until(b"<dave>")


def test_a_mac_that_is_set_is_one_that_the_nic_hears_for(lan: Lan, carol: str) -> None:
    mac = "52:54:00:77:00:50"
    lan.lab.multiplexerctl("vif", "set", carol, "--mac", mac)
    me = Member(mac, "10.77.0.50", "fd77::50")
    with StreamClient(lan.lab.socket_of(carol, "stream"), CAROL) as client:
        client.send([bytes(lawful(me, lan.members["outside"], b"<out>"))])
        lan.listeners["outside"].frames_until(b"<out>")

    # Others may have asked for the address while nobody was attached.
    assert set(lan.vif(carol)["counters"]["drops"]) <= {"detached"}


NEW = """
[vif.new]
owner = "20011"
network = "lan"
addresses = ["10.77.0.60/24"]
"""
VIF_OF_EARLY = """
[vif.early]
owner = "20011"
addresses = ["10.78.0.60/24"]
"""
OLD = NEW.replace("new", "old").replace("0.60", "0.61").replace("20011", "20012")


@pytest.fixture
def file(lan: Lan) -> Iterator[str]:
    """The text of the configuration file, which is in force again afterwards."""
    text = lan.lab.config.read_text()
    yield text
    reload(lan, text)


def reload(lan: Lan, text: str) -> list[str]:
    """Have *text* as the configuration file; return what the daemon says that it changes."""
    lan.lab.config.write_text(text)
    reloaded = lan.lab.ask("reload")
    assert reloaded["applied"], reloaded
    changes: list[str] = reloaded["changes"]
    return changes


def names(lan: Lan) -> set[str]:
    return {vif["name"] for vif in lan.lab.ask("vif.list")["vifs"]}


def test_vifs_come_and_go_by_a_reload_and_nobody_else_notices(lan: Lan, file: str) -> None:
    reload(lan, file + OLD)
    attachment = attached(lan, "old", DAVE)
    pids = lan.daemon.processes()
    with nothing_lost(lan):
        changes = reload(lan, file + NEW)
    goodbye = last_word(attachment)

    assert changes == ["vif.old: removed", "vif.new: added"]
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code is GoodbyeCode.DELETED
    assert lan.daemon.processes() == pids
    frame = lawful(
        Member(lan.vif("new")["mac"], "10.77.0.60", "fd77::60"), lan.members["bob"], b"<new>"
    )
    with StreamClient(lan.lab.socket_of("new", "stream"), CAROL) as client:
        client.send([bytes(frame)])
        lan.listeners["bob"].frames_until(b"<new>")


def test_a_file_that_is_wrong_is_told_by_line_and_changes_nothing(lan: Lan, file: str) -> None:
    before = names(lan)
    lan.lab.config.write_text(file + NEW.replace("10.77.0.60", "192.0.2.60"))
    with nothing_lost(lan):
        done = lan.lab.multiplexerctl("reload", check=False)

    line = file.count("\n") + 5
    assert done.returncode == 1
    assert f"multiplexer.toml:{line}: vif.new.addresses: address 192.0.2.60" in done.stdout
    assert names(lan) == before


def test_a_dry_run_only_tells(lan: Lan, file: str) -> None:
    before = names(lan)
    lan.lab.config.write_text(file + NEW)
    done = lan.lab.multiplexerctl("reload", "--dry-run")

    assert done.stdout == "would change  vif.new: added\n"
    assert names(lan) == before


def test_a_signal_reloads(lan: Lan, file: str) -> None:
    lan.lab.config.write_text(file + NEW)
    with nothing_lost(lan):
        lan.daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: "new" in names(lan), "the new vif is there")

    assert "reload: vif.new: added" in lan.daemon.log.read_text()


def test_a_networks_mtu_reaches_the_stacks_that_run(lan: Lan, file: str) -> None:
    alice = lan.stacks["alice"]
    path = f"/sys/class/net/{alice.interface}/mtu"
    with nothing_lost(lan):
        assert reload(lan, file.replace("mtu = 1500", "mtu = 1400")) == [
            "network.lan.mtu: 1500 -> 1400"
        ]
    eventually(lambda: alice.run("cat", path).stdout == "1400\n", "alice's MTU is 1400")

    assert ping(alice, "10.77.0.12", "-Mdo", "-s1372")
    assert ping(alice, "10.77.0.1")


def test_a_network_loses_its_uplink_and_gets_it_again(lan: Lan, file: str) -> None:
    """Its vifs have other MACs meanwhile, which are made of that of the network's NIC."""
    alice = lan.stacks["alice"]

    reload(lan, file.replace('uplink = "wire"\n', ""))
    assert not ping(alice, "10.77.0.1", "-w1")
    assert ping(alice, "10.77.0.12")
    reload(lan, file)
    assert ping(alice, "10.77.0.1")
    assert lan.vif("alice")["mac"] == lan.members["alice"].mac


def test_the_only_uplink_goes_and_comes_back(lan: Lan, file: str) -> None:
    head, _, tail = file.partition("[uplink.wire]")
    alone = head + "[network.lan]" + tail.partition("[network.lan]")[2]

    changes = reload(lan, alone.replace('uplink = "wire"\n', ""))
    assert not ping(lan.stacks["alice"], "10.77.0.1", "-w1")
    reload(lan, file)
    assert ping(lan.stacks["alice"], "10.77.0.1")

    assert changes == ["uplink.wire: removed", "network.lan.uplink: wire -> not set"]


def test_the_host_joins_a_network_and_leaves_it(lan: Lan, file: str) -> None:
    host = lan.lab.host
    host.run("ip", "address", "add", "10.77.0.2/24", "dev", "nic0")
    try:
        with nothing_lost(lan):
            reload(lan, file.replace("[network.lan]", "[network.lan]\nhost = true"))
            assert ping(host, "10.77.0.11", "-I10.77.0.2")
            routes = host.run("ip", "route", "show", "dev", "mx-lan").stdout
            reload(lan, file)
        links = host.run("ip", "-br", "link").stdout
    finally:
        host.run("ip", "address", "del", "10.77.0.2/24", "dev", "nic0")

    assert "10.77.0.11" in routes
    assert "mx-lan" not in links


def test_a_control_that_is_killed_later_is_followed_by_one_of_the_new_file(
    lan: Lan, file: str
) -> None:
    """A network stands before another's in the file and behind it in the datapath."""
    early = '[network.early]\nprefixes = ["10.78.0.0/24"]\n'
    restarts = lan.lab.restarts()
    assert restarts is not None
    another = (restarts[0] + 1, restarts[1])
    with nothing_lost(lan):
        reload(lan, file.replace("[network.lan]", early + "\n[network.lan]") + VIF_OF_EARLY)
        os.kill(lan.daemon.processes()["control"], signal.SIGKILL)
        eventually(lambda: lan.lab.restarts() == another, "another control is there")

    assert {"early", "alice"} <= names(lan)
    assert ping(lan.stacks["alice"], "10.77.0.1")


def test_two_vifs_swap_their_addresses(lan: Lan, file: str) -> None:
    both = file + NEW + OLD
    reload(lan, both)
    swapped = both.replace("0.60", "0.x").replace("0.61", "0.60").replace("0.x", "0.61")
    with nothing_lost(lan):
        reload(lan, swapped)

    for name, address in (("new", "10.77.0.61"), ("old", "10.77.0.60")):
        assert lan.vif(name)["addresses"] == [f"{address}/24"]
