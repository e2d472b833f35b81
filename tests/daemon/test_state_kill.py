"""The owner of the database is killed at random: nothing acknowledged is lost or half done."""

import os
import random
import signal
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

import attrs

from multiplexer.daemon.state import State
from multiplexer.model import OwnLimits, Vif
from pfinet_proto.values import MacAddress, VifName

SEED: Final = 20261126
CHANGES: Final = 500
#: Acknowledged between two kills.
MOST_BETWEEN: Final = 25
#: Up to so many turns of an idle loop from the last acknowledgement to the kill,
#: which is longer than a change takes.
MOST_TURNS: Final = 40_000


@attrs.frozen
class Content:
    """All that a database has."""

    vifs: frozenset[Vif] = frozenset()
    static_ids: Mapping[VifName, str] = attrs.field(factory=dict)
    nic_macs: Mapping[str, MacAddress] = attrs.field(factory=dict)

    @classmethod
    def of(cls, state: State) -> "Content":
        return cls(frozenset(state.vifs()), state.static_ids(), state.nic_macs())


@attrs.frozen
class Change:
    """One change, and what there is after it."""

    make: Callable[[State], None]
    after: Content


def made_vif(chance: random.Random, number: int) -> Vif:
    mac = MacAddress(b"\x52\x54" + number.to_bytes(4, "big"))
    address = ip_interface(f"10.{chance.randrange(256)}.{chance.randrange(256)}.5/24")
    limits = OwnLimits(bytes_per_s=chance.randrange(10**6))
    return Vif(
        id=f"{number:032x}",
        name=VifName.parse(f"v{number}"),
        owner_uid=20001,
        owner_name="alice",
        network="lan",
        mac=mac,
        addresses=(address,),
        limits=limits,
    )


def next_change(chance: random.Random, number: int, before: Content) -> Change:
    kind = chance.choice(("add", "add", "update", "remove", "static", "nic"))
    vif = made_vif(chance, number)
    if kind == "static":
        ids = {**before.static_ids, vif.name: vif.id}
        return Change(
            lambda state: state.keep_static_id(vif.name, vif.id),
            attrs.evolve(before, static_ids=ids),
        )
    if kind == "nic":
        macs = {**before.nic_macs, "wire": vif.mac}
        return Change(
            lambda state: state.keep_nic_mac("wire", vif.mac), attrs.evolve(before, nic_macs=macs)
        )
    if kind == "add" or not before.vifs:
        return Change(
            lambda state: state.add(vif), attrs.evolve(before, vifs=before.vifs | {vif})
        )
    old = chance.choice(sorted(before.vifs, key=lambda each: each.id))
    rest = before.vifs - {old}
    if kind == "remove":
        return Change(lambda state: state.remove(old.id), attrs.evolve(before, vifs=rest))
    new = attrs.evolve(vif, id=old.id, name=old.name, mac=old.mac)
    return Change(lambda state: state.update(new), attrs.evolve(before, vifs=rest | {new}))


def all_changes(chance: random.Random) -> list[Change]:
    changes: list[Change] = []
    for number in range(CHANGES):
        before = changes[-1].after if changes else Content()
        changes.append(next_change(chance, number, before))
    return changes


def start_changing(path: Path, changes: list[Change]) -> tuple[int, int]:
    """Start a process that makes *changes*; return its pid, and a pipe with a byte for each."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    with suppress(BaseException):
        state = State.open(path)
        for change in changes:
            change.make(state)
            os.write(writer, b".")
    os._exit(1)


def count_acknowledged(reader: int, wanted: int) -> int:
    """Return how many bytes have come, at least *wanted* unless that was all."""
    count = 0
    while count < wanted and (data := os.read(reader, wanted - count)):
        count += len(data)
    return count


def test_whenever_its_owner_is_killed_all_that_it_acknowledged_is_there_and_no_more(
    tmp_path: Path,
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    path = tmp_path / "state.db"
    changes = all_changes(chance)
    done = kills = 0
    while done < CHANGES:
        pid, reader = start_changing(path, changes[done:])
        acknowledged = count_acknowledged(reader, chance.randrange(MOST_BETWEEN))
        for _ in range(chance.randrange(MOST_TURNS)):
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        acknowledged += count_acknowledged(reader, CHANGES)
        os.close(reader)
        kills += 1

        with closing(State.open(path)) as state:
            found = Content.of(state)
        least = done + acknowledged
        possible = {number: content_after(changes, number) for number in (least, least + 1)}
        assert found in possible.values(), f"after kill {kills}, with {least} changes acknowledged"
        done = max(number for number, content in possible.items() if content == found)

    assert kills >= CHANGES // MOST_BETWEEN


def content_after(changes: list[Change], number: int) -> Content | None:
    """Return what there is after *number* changes, None if there are not so many."""
    if number > len(changes):
        return None
    return changes[number - 1].after if number else Content()
