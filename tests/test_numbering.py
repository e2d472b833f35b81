"""Numbers of the datapath: positions at a start, and kept from then on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiplexer.config import parse_config
from multiplexer.model import (
    Numbering,
    NumbersExhausted,
    id_of_network,
    port_of_uplink,
    renumbered,
)

names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=5)


def test_what_stays_keeps_its_number_and_what_comes_gets_one_that_was_free_before() -> None:
    before = Numbering({"a": 0, "b": 1, "c": 2}, {"x": 0, "y": 1})

    after = before.following(Numbering.first("dcb", "yz"), 256, 64)

    assert after == Numbering({"d": 3, "c": 2, "b": 1}, {"y": 1, "z": 2})


def test_a_number_is_free_again_a_reload_later() -> None:
    numbering = Numbering.first("ab", "")
    for names in ("b", "bc"):
        numbering = numbering.following(Numbering.first(names, ""), 256, 64)

    assert numbering.networks == {"b": 1, "c": 0}


def test_more_than_there_are_numbers_at_once_are_refused_with_their_count() -> None:
    before = Numbering.first("abc", "")

    with pytest.raises(NumbersExhausted, match="5 networks, those that go and those that"):
        before.following(Numbering.first("cde", ""), 4, 64)


@given(names, names)
def test_no_two_share_a_number_and_nobody_gets_that_of_one_who_goes(
    old: list[str], new: list[str]
) -> None:
    before = Numbering.first(old, ()).networks
    after = Numbering.first(old, ()).following(Numbering.first(new, ()), 16, 16).networks

    assert set(after) == set(new)
    assert len(set(after.values())) == len(new)
    assert all(after[name] == before[name] for name in before if name in after)
    assert not {after[name] for name in new if name not in before} & set(before.values())


def test_a_file_that_is_read_again_is_known_by_the_numbers_of_the_first() -> None:
    nic = '[uplink.{0}]\nkind = "nic"\ninterface = "{0}"\n'
    network = '[network.{0}]\nprefixes = ["10.0.{1}.0/24"]\n'
    first = parse_config(
        nic.format("eth0") + nic.format("eth1") + network.format("a", 1) + network.format("b", 2),
        "m.toml",
    )
    second = parse_config(nic.format("eth1") + network.format("b", 2), "m.toml")

    again = renumbered(second, first.numbering)

    assert again == second
    assert (port_of_uplink(again, "eth1"), id_of_network(again, "b")) == (1, 1)
    with pytest.raises(KeyError):
        id_of_network(again, "a")
