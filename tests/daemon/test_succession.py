"""The broker's part of a reload: the file is read, committed and ended, each when control asks."""

import os
import signal
import socket
from pathlib import Path
from typing import IO, Any

import pytest

from multiplexer.daemon import broker, channel
from multiplexer.daemon.succession import MAX_LINE, bounded
from pfinet_proto.values import MacAddress
from tests.daemon.test_broker import (
    OWNER_UID,
    PLAIN,
    VIF_ID,
    WITH_NIC,
    Daemon,
    Place,
    Puppet,
    ip,
    lan,
    place,
    plug,
)
from tests.support.netns import NetworkNamespace

__all__ = ["lan", "place"]

MORE = """
[network.more]
prefixes = ["10.8.0.0/24"]
"""
SECOND = """
[uplink.second]
kind = "nic"
interface = "other"
external = ["10.8.0.0/24"]

[network.more]
uplink = "second"
prefixes = ["10.8.0.0/24"]
"""


def prepare(puppet: Puppet) -> channel.ReloadPrepared:
    puppet.say(channel.encode(channel.PrepareReload(0)))
    message = puppet.next_of(channel.ReloadPrepared).message
    assert isinstance(message, channel.ReloadPrepared)
    return message


def reload(puppet: Puppet) -> channel.ReloadPrepared:
    prepared = prepare(puppet)
    assert prepared.errors == ()
    assert puppet.error_of(channel.CommitReload) is None
    assert puppet.error_of(channel.EndReload) is None
    return prepared


def start_of(daemon: Daemon) -> channel.Start:
    """Return what the control that runs now was started with."""
    with daemon.puppet() as puppet:
        message = puppet.next().message
    assert isinstance(message, channel.Start)
    return message


def numbers(start: channel.Start) -> dict[str, int]:
    return {each.name: each.number for each in start.networks}


def test_what_control_may_is_what_the_file_says_from_the_commit_on(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure(owner_uids=["5000"])
        prepared = prepare(puppet)
        before = puppet.open_vif().message
        committed = puppet.error_of(channel.CommitReload)
        after = puppet.open_vif(VIF_ID[::-1]).message
        ended = puppet.error_of(channel.EndReload)

    assert prepared.config_text == place.config.read_text()
    assert (committed, ended) == (None, None)
    assert isinstance(before, channel.Done)
    assert isinstance(after, channel.Done)
    assert before.error is None
    assert after.error is not None
    assert f"uid {OWNER_UID}" in after.error
    assert daemon.stop() == 0
    assert daemon.told[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert daemon.told[1:] == ["READY=1\nSTATUS=Running", "STOPPING=1"]


def test_what_is_prepared_and_not_wanted_changes_nothing(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure(owner_uids=["5000"])
        prepare(puppet)
        assert puppet.error_of(channel.EndReload) is None
        opened = puppet.open_vif().message

    assert opened == channel.Done(2)
    assert daemon.stop() == 0
    assert daemon.told == ["STOPPING=1"]


@pytest.mark.parametrize(
    ("text", "keys", "error"),
    [
        ("nonsense", {}, "not TOML"),
        ("[vif.x]\nowner = 'x'\n", {}, "vif.x.addresses"),
        (PLAIN, {"run_dir": "/run/other"}, "daemon.run_dir: "),
        (PLAIN, {"engine_user": "903"}, "cannot be while the daemon runs: restart it"),
        (PLAIN, {"cpu": min(os.sched_getaffinity(0))}, "cpu: not set -> "),
        (PLAIN, {"owner_uids": ["901"]}, "which daemon.owner_uids gives to owners of vifs"),
        (WITH_NIC, {}, "cap_net_raw, which were not needed at the start: restart it"),
    ],
)
def test_a_file_that_cannot_be_is_told_by_its_lines_and_changes_nothing(
    place: Place, text: str, keys: dict[str, object], error: str
) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure(text, **keys)
        prepared = prepare(puppet)
        ended = puppet.error_of(channel.EndReload)
        place.configure(PLAIN + MORE)
        again = reload(puppet)

    assert (prepared.config_text, prepared.uplinks, ended) == ("", (), None)
    assert any(error in line for line in prepared.errors), prepared.errors
    assert again.config_text == place.config.read_text()


def test_a_file_that_others_may_write_is_not_followed(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.config.chmod(0o666)
        prepared = prepare(puppet)

    assert "must be root's, and writable by nobody else" in prepared.errors[0]


def test_a_fifo_in_the_place_of_the_file_holds_nothing_up(place: Place) -> None:
    """Nobody ever opens it for writing."""
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.config.unlink()
        os.mkfifo(place.config, 0o600)
        prepared = prepare(puppet)
        ended = puppet.error_of(channel.EndReload)

    assert prepared.errors == (f"{place.config} is no regular file",)
    assert ended is None


def test_the_file_that_is_judged_is_the_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write its directory could put another there in between."""
    path = tmp_path / "multiplexer.toml"
    path.write_text(PLAIN)
    path.chmod(0o666)

    def open_before_it_is_replaced(name: str, mode: str, **_: Any) -> IO[Any]:
        fd = os.open(name, os.O_RDONLY)
        path.unlink()
        path.write_text(PLAIN)
        return os.fdopen(fd, mode)

    monkeypatch.setattr(broker, "open", open_before_it_is_replaced, raising=False)
    with pytest.raises(broker.StartError, match="writable by nobody else"):
        broker.load(str(path), must_be_roots=True)


def test_a_file_with_endless_errors_is_told_with_some_and_their_number(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure("".join(f"[vif.v{n}]\n" for n in range(1000)))
        errors = prepare(puppet).errors

    assert len(errors) == 101
    assert errors[-1].startswith("and ")


def test_an_error_with_an_endless_value_is_told_cut_short_and_the_daemon_goes_on(
    place: Place,
) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure(f"[network.lab]\nmode = '{180_000 * 'x'}'\nprefixes = ['10.9.0.0/24']\n")
        (error,) = prepare(puppet).errors
        assert puppet.error_of(channel.EndReload) is None

    assert "network.lab.mode" in error
    assert error.endswith(" ...")
    assert len(error) == MAX_LINE


@pytest.mark.parametrize("character", ["x", "\x01", "\U0001f980"])
def test_whatever_is_wrong_fits_a_message(character: str) -> None:
    lines = bounded([character * length for length in range(500, 2000)])

    channel.encode(channel.ReloadPrepared(2**63, "", (), lines))
    assert lines[0] == character * 500
    assert lines[-1] == f"and {1500 - len(lines) + 1} more"


def test_a_signal_is_passed_on_and_stops_nothing(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        daemon.process.send_signal(signal.SIGHUP)
        puppet.next_of(channel.ReloadAsked)

        assert puppet.open_vif().message == channel.Done(1)


@pytest.mark.parametrize(
    "steps",
    [
        [channel.CommitReload],
        [channel.PrepareReload, channel.PrepareReload],
        [channel.PrepareReload, channel.CommitReload, channel.CommitReload],
        [channel.PrepareReload, channel.CommitReload, channel.PrepareReload],
    ],
)
def test_a_control_that_takes_a_step_out_of_turn_is_killed(
    place: Place, steps: list[type[channel.PrepareReload | channel.CommitReload]]
) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        for number, step in enumerate(steps):
            puppet.say(channel.encode(step(number)))
        daemon.wait_log("control broke the protocol")

    restarts = start_of(daemon).restarts
    assert restarts.control + restarts.engine == 1


def test_a_control_that_dies_before_the_commit_finds_the_old_file_and_its_engine(
    place: Place,
) -> None:
    daemon = place.start()
    before = daemon.roles()
    old = place.config.read_text()
    with daemon.puppet() as puppet:
        place.configure(PLAIN + MORE)
        prepare(puppet)
        os.kill(before["control"], signal.SIGKILL)
    daemon.wait_log("audit: restarted role=control")

    assert start_of(daemon).config_text == old
    assert daemon.roles()["engine"] == before["engine"]
    with daemon.puppet() as puppet:
        reload(puppet)


def test_a_control_that_dies_after_the_commit_finds_the_new_file_and_a_fresh_engine(
    place: Place,
) -> None:
    """Nobody knows what of the file the engine was told already."""
    daemon = place.start()
    before = daemon.roles()
    with daemon.puppet() as puppet:
        place.configure(MORE + PLAIN)
        prepare(puppet)
        assert puppet.error_of(channel.CommitReload) is None
        os.kill(before["control"], signal.SIGKILL)
    daemon.wait_log("audit: restarted role=engine")

    start = start_of(daemon)
    assert start.config_text == place.config.read_text()
    assert numbers(start) == {"lab": 0, "more": 1}
    assert daemon.roles()["engine"] != before["engine"]


def test_numbers_stay_over_reloads_and_restarts_of_control(place: Place) -> None:
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure(MORE)
        reload(puppet)
        place.configure(PLAIN + MORE)
        reload(puppet)
        os.kill(daemon.roles()["control"], signal.SIGKILL)
    daemon.wait_log("audit: restarted role=control")

    assert numbers(start_of(daemon)) == {"more": 1, "lab": 0}


def test_a_nic_that_comes_is_opened_and_one_that_stays_is_not_touched(
    place: Place, lan: NetworkNamespace
) -> None:
    plug(lan)
    ip(lan, "link add other type veth peer name elsewhere")
    daemon = place.start()
    with daemon.puppet() as puppet:
        puppet.next_of(channel.SetUplink)
        place.configure(WITH_NIC + SECOND)
        prepared = prepare(puppet)
        puppet.say(channel.encode(channel.CommitReload(7)))
        given = puppet.next_of(channel.SetUplink)
        puppet.error_of(channel.EndReload)

        place.configure(WITH_NIC)
        prepare(puppet)
        puppet.say(channel.encode(channel.CommitReload(8)))
        cleared = puppet.next_of((channel.ClearUplink, channel.SetUplink)).message

    macs = {state.uplink: state.mac for state in prepared.uplinks}
    assert macs["second"] == MacAddress(lan.mac("other"))
    assert isinstance(given.message, channel.SetUplink)
    assert (given.message.port, given.message.present) == (1, True)
    assert [kind for kind, _ in given.sockets] == [socket.SOCK_RAW]
    assert isinstance(cleared, channel.ClearUplink)
    assert cleared.port == 1


def test_another_interface_takes_the_port_of_the_one_before(
    place: Place, lan: NetworkNamespace
) -> None:
    plug(lan)
    ip(lan, "link add other type veth peer name elsewhere")
    daemon = place.start()
    with daemon.puppet() as puppet:
        puppet.each_of(channel.UplinkState, channel.SetUplink)
        place.configure(WITH_NIC.replace('"nic"\next', '"other"\next'))
        prepare(puppet)
        puppet.say(channel.encode(channel.CommitReload(7)))
        described, given = puppet.each_of(channel.UplinkState, channel.SetUplink)

    assert isinstance(described.message, channel.UplinkState)
    assert described.message.mac == MacAddress(lan.mac("other"))
    assert isinstance(given.message, channel.SetUplink)
    assert given.message.port == 0
    assert "'other'" in given.sockets[0][1]


def test_an_interface_that_cannot_be_used_is_an_error_of_the_file(
    place: Place, lan: NetworkNamespace
) -> None:
    plug(lan)
    daemon = place.start()
    with daemon.puppet() as puppet:
        place.configure(WITH_NIC + SECOND.replace('"other"', '"lo"'))
        not_ethernet = prepare(puppet).errors
        puppet.error_of(channel.EndReload)
        place.configure(WITH_NIC.replace("[network.lab]", "[network.lab]\nmtu = 9000"))
        too_small = prepare(puppet).errors

    assert 'interface "lo" is not Ethernet' in not_ethernet[0]
    assert 'uplink.lan.interface: interface "nic" has MTU 1500' in too_small[0]
