"""Rows that lead from one file to another: few, and in an order that the datapath takes."""

import random
from collections.abc import Iterable, Mapping
from contextlib import closing
from ipaddress import ip_interface

import attrs
import pytest

from multiplexer.config import parse_config
from multiplexer.datapath.engine import Engine
from multiplexer.model import FIRST_VIF_PORT, Config, UplinkKind, Vif, renumbered
from multiplexer.policy import (
    Staying,
    VifStep,
    compile_network,
    compile_vif,
    decode_network,
    decode_vif,
    network_rows,
    vif_steps,
)
from pfinet_proto.values import MacAddress, VifName

TEXT = """\
[uplink.east]
kind = "nic"
interface = "eth0"
external = ["10.0.0.0/8"]
[uplink.west]
kind = "nic"
interface = "eth1"
external = ["10.0.0.0/8"]
[network.a]
uplink = "east"
prefixes = ["10.0.1.0/24"]
[network.b]
uplink = "west"
prefixes = ["10.0.2.0/24"]
[network.c]
prefixes = ["10.0.3.0/24"]
"""


def config(text: str = TEXT, before: Config | None = None) -> Config:
    read = parse_config(text, "m.toml")
    return read if before is None else renumbered(read, before.numbering)


def vif(name: str, address: str, network: str = "a", mac: int | None = None) -> Vif:
    number = mac if mac is not None else ord(name[0])
    return Vif(
        id=f"{ord(name[0]):032x}",
        name=VifName(name),
        owner_uid=1000,
        owner_name=None,
        network=network,
        mac=MacAddress(b"\x52\x54\0\0\0" + bytes((number,))),
        addresses=(ip_interface(address),),
    )


NOW = config()
X, Y = vif("x", "10.0.1.5/24"), vif("y", "10.0.1.6/24")


def steps(pairs: Iterable[tuple[Vif, Vif]], then: Config = NOW, *comers: Vif) -> list[VifStep]:
    stays = [
        Staying(port, before, after) for port, (before, after) in enumerate(pairs, FIRST_VIF_PORT)
    ]
    return list(vif_steps(NOW, then, stays, comers))


def test_what_does_not_change_has_no_row() -> None:
    assert network_rows(NOW, config(before=NOW)) == ()
    assert steps([(X, X), (Y, Y)]) == []


def test_what_the_datapath_does_not_know_has_no_row() -> None:
    then = config(TEXT.replace("[network.a]", '[network.a]\ndns = ["10.0.0.1"]'), NOW)

    assert network_rows(NOW, then) == ()
    assert steps([(X, attrs.evolve(X, owner_uid=7))], then) == []


def test_a_changed_network_has_one_row_and_its_vifs_theirs() -> None:
    then = config(TEXT.replace("[network.a]", "[network.a]\nmtu = 1400"), NOW)

    (row,) = network_rows(NOW, then)
    other = vif("z", "10.0.2.5/24", "b")

    assert (decode_network(row).id, decode_network(row).mtu) == (0, 1400)
    (step,) = steps([(X, X), (other, other)], then)
    assert (step.port, decode_vif(step.row).mtu) == (FIRST_VIF_PORT, 1400)


def test_networks_that_swap_their_uplinks_let_go_first() -> None:
    swapped = TEXT.replace('uplink = "east"', "x").replace('"west"\npre', '"east"\npre')
    then = config(swapped.replace("\nx\n", '\nuplink = "west"\n'), NOW)

    rows = [decode_network(row) for row in network_rows(NOW, then)]

    assert [(row.id, row.uplink_port) for row in rows] == [(0, None), (1, None), (0, 1), (1, 0)]


def test_a_network_that_goes_lets_go_of_its_uplink() -> None:
    table = '[network.a]\nuplink = "east"\nprefixes = ["10.0.1.0/24"]\n'
    (row,) = network_rows(NOW, config(TEXT.replace(table, ""), NOW))

    assert (decode_network(row).id, decode_network(row).uplink_port) == (0, None)


def test_vifs_that_swap_addresses_let_go_first() -> None:
    x, y = attrs.evolve(X, addresses=Y.addresses), attrs.evolve(Y, addresses=X.addresses)

    found = steps([(X, x), (Y, y)])

    assert [step.port for step in found] == [64, 65, 64, 65]
    assert [step.row for step in found[2:]] == [compile_vif(NOW, x), compile_vif(NOW, y)]
    assert all(decode_vif(step.row).mac not in (X.mac, Y.mac) for step in found[:2])


def test_who_gives_up_what_nobody_takes_has_one_row() -> None:
    assert len(steps([(X, attrs.evolve(X, addresses=Y.addresses))])) == 1


def test_who_gives_up_what_a_new_one_takes_has_one_row_more() -> None:
    moved = attrs.evolve(X, addresses=Y.addresses)

    assert len(steps([(X, moved)], NOW, vif("z", "10.0.1.5/24"))) == 2


def text_of(rng: random.Random, networks: list[str], uplinks: list[str]) -> str:
    bridged = iter(rng.sample(uplinks, len(uplinks)))
    text = "".join(
        f'[uplink.{name}]\nkind = "nic"\ninterface = "{name}"\nexternal = ["10.0.0.0/8"]\n'
        for name in uplinks
    )
    for name in networks:
        uplink = next(bridged, None) if rng.random() < 0.7 else None
        text += f'[network.{name}]\nprefixes = ["10.0.{ord(name)}.0/24"]\n'
        text += f"mtu = {rng.choice([1400, 1500])}\n"
        text += f'uplink = "{uplink}"\n' if uplink is not None else ""
    return text


def vifs_of(rng: random.Random, networks: list[str]) -> dict[str, Vif]:
    """Return vifs by id, no two with one MAC or address, out of so few that many swap."""
    names = rng.sample("pqrstu", rng.randint(0, 6))
    places = [(network, last) for network in networks for last in (5, 6, 7)]
    macs = rng.sample(range(8), len(names))
    found = {}
    rng.shuffle(places)
    for name, (network, last), mac in zip(names, places, macs, strict=False):
        made = vif(name, f"10.0.{ord(network)}.{last}/24", network, mac)
        found[made.id] = made
    return found


def fill(engine: Engine, config: Config) -> None:
    for uplink in config.uplinks:
        if uplink.kind is UplinkKind.NIC:
            engine.add_uplink(config.numbering.nics[uplink.name])
    for network in config.networks:
        engine.set_network(compile_network(config, network))


def follow(
    engine: Engine,
    now: Config,
    then: Config,
    before: Mapping[str, Vif],
    after: Mapping[str, Vif],
    ports: dict[str, int],
) -> None:
    """Do with *engine* as a reload does."""
    for name in now.numbering.nics.keys() - then.numbering.nics.keys():
        engine.clear_uplink(now.numbering.nics[name])
    for name in then.numbering.nics.keys() - now.numbering.nics.keys():
        engine.add_uplink(then.numbering.nics[name])
    for gone in before.keys() - after.keys():
        engine.clear_vif(ports.pop(gone))
    for row in network_rows(now, then):
        engine.set_network(row)
    stays = [Staying(ports[id_], before[id_], after[id_]) for id_ in before.keys() & after.keys()]
    comers = [after[id_] for id_ in after.keys() - before.keys()]
    for step in vif_steps(now, then, stays, comers):
        engine.set_vif(step.port, step.row)
    for comer in comers:
        ports[comer.id] = next(n for n in range(64, 128) if n not in ports.values())
        engine.set_vif(ports[comer.id], compile_vif(then, comer))
    for name in now.numbering.networks.keys() - then.numbering.networks.keys():
        engine.clear_network(now.numbering.networks[name])


@pytest.mark.parametrize("seed", range(30))
def test_the_datapath_takes_every_transition(seed: int) -> None:
    rng = random.Random(seed)
    networks = rng.sample("abcd", 3)
    now = config(text_of(rng, networks, ["east", "west"]))
    before = vifs_of(rng, networks)
    ports = {id_: FIRST_VIF_PORT + n for n, id_ in enumerate(before)}
    with closing(Engine()) as engine:
        fill(engine, now)
        for id_, each in before.items():
            engine.set_vif(ports[id_], compile_vif(now, each))
        for _ in range(20):
            networks = rng.sample("abcd", rng.randint(1, 4))
            uplinks = rng.sample(["east", "west", "north"], rng.randint(0, 3))
            then = config(text_of(rng, networks, uplinks), now)
            after = vifs_of(rng, networks)
            follow(engine, now, then, before, after, ports)
            # What is there is what is wanted, so nothing refuses a row of it.
            for network in then.networks:
                engine.set_network(compile_network(then, network))
            for id_, each in after.items():
                engine.set_vif(ports[id_], compile_vif(then, each))
            now, before = then, after
