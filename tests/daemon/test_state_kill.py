"""The owner of the database is killed amid a change: nothing acknowledged is lost or half done.

A limit to the size of its files kills it at the very byte of the log that it was to write
next; without one it dies between the end of the change and the acknowledgement.
"""

import os
import random
import resource
import signal
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

import attrs
import pytest

from multiplexer.daemon import database
from multiplexer.daemon.state import State
from multiplexer.model import FilterBinding, OwnLimits, Vif
from multiplexer.policy.nwfilter.syntax import Filter, Reference
from pfinet_proto.values import MacAddress, VifName

SEED: Final = 20261126
CHANGES: Final = 500
#: Acknowledged between two kills.
MOST_BETWEEN: Final = 25

#: Where a change ends: after so many bytes of its first frame in the log, which are a header of
#: 24 and a page of 4096 (sqlite.org/walformat.html), or after all of it.
ALL: Final = None
ENDS: Final = (0, 1, 24, 25, 2048, 4119, ALL)


@attrs.frozen
class Content:
    """All that a database has."""

    vifs: frozenset[Vif] = frozenset()
    static_ids: Mapping[VifName, str] = attrs.field(factory=dict)
    nic_macs: Mapping[str, MacAddress] = attrs.field(factory=dict)
    filters: Mapping[str, Filter] = attrs.field(factory=dict)

    @classmethod
    def of(cls, state: State) -> "Content":
        filters = {each.name: each for each in state.filters()}
        return cls(frozenset(state.vifs()), state.static_ids(), state.nic_macs(), filters)


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
        filter=FilterBinding.of("f0", {"PORT": [str(number)]}) if number % 3 == 0 else None,
    )


def made_filter(chance: random.Random, number: int) -> Filter:
    name = f"f{chance.randrange(20)}"
    # Longer than a page of the database, now and then.
    below = tuple(Reference(f"g{number}-{each}") for each in range(chance.choice((0, 1, 200))))
    return Filter(name, uuid=f"{number:08x}-0000-4000-8000-000000000000", entries=below)


def next_change(chance: random.Random, number: int, before: Content) -> Change:
    kinds = ("add", "add", "update", "remove", "static", "nic", "define", "define", "undefine")
    kind = chance.choice(kinds)
    vif = made_vif(chance, number)
    if kind == "define" or (kind == "undefine" and not before.filters):
        filter_ = made_filter(chance, number)
        filters = {**before.filters, filter_.name: filter_}
        return Change(
            lambda state: state.keep_filter(filter_), attrs.evolve(before, filters=filters)
        )
    if kind == "undefine":
        gone = chance.choice(sorted(before.filters))
        filters = {name: each for name, each in before.filters.items() if name != gone}
        return Change(
            lambda state: state.forget_filter(gone), attrs.evolve(before, filters=filters)
        )
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
        return Change(lambda state: state.add(vif), attrs.evolve(before, vifs=before.vifs | {vif}))
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


def die_changing(path: Path, changes: list[Change], end: int | None) -> int:
    """Make *changes* in a process that dies amid the last; return how many it acknowledged."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            state = State.open(path)
            for change in changes[:-1]:
                change.make(state)
                os.write(writer, b".")
            if end is not ALL:
                die_after(log_bytes(path) + end)
            changes[-1].make(state)
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    os.close(writer)
    status = os.waitpid(pid, 0)[1]
    with open(reader, "rb") as acknowledgements:
        acknowledged = len(acknowledgements.read())
    assert os.WTERMSIG(status) == (signal.SIGKILL if end is ALL else signal.SIGXFSZ)
    return acknowledged


def log_bytes(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return log.stat().st_size if log.exists() else 0


def die_after(size_bytes: int) -> None:
    """Be killed by the first byte that is written to a file behind so many."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def test_whenever_its_owner_is_killed_all_that_it_acknowledged_is_there_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The log only grows, so that the end of it is where the next byte is written.
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 100_000)
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    path = tmp_path / "state.db"
    changes = all_changes(chance)
    done = kills = 0
    while done < CHANGES:
        end = ENDS[kills % len(ENDS)]
        count = min(1 + chance.randrange(MOST_BETWEEN), CHANGES - done)
        acknowledged = die_changing(path, changes[done : done + count], end)
        kills += 1

        with closing(State.open(path)) as state:
            found = Content.of(state)
        assert acknowledged == count - 1
        done += count if end is ALL else acknowledged
        assert found == content_after(changes, done), f"after kill {kills}, at byte {end}"

    assert kills >= 3 * len(ENDS)


def content_after(changes: list[Change], number: int) -> Content:
    """Return what there is after *number* changes."""
    return changes[number - 1].after if number else Content()
