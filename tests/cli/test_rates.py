"""What top shows: two looks at the counters become rates."""

import attrs
import pytest

from multiplexer.cli.page import page_as_text
from multiplexer.cli.rates import Look, Rates, page_of_rates, rates_between, short
from pfinet_proto.control import Counters
from tests.cli.test_render import QUIET, VIF, WIRE


def counted(
    rx_frames: int, rx_bytes: int, tx_frames: int, tx_bytes: int, **drops: int
) -> Counters:
    return Counters(rx_frames, rx_bytes, tx_frames, tx_bytes, drops)


BEFORE = Look(
    10.0,
    (
        attrs.evolve(VIF, counters=counted(100, 1000, 7, 70, src_mac=3, runt=1)),
        attrs.evolve(QUIET, id="f" * 32),
    ),
    (WIRE,),
)
AFTER = Look(
    12.0,
    (
        attrs.evolve(QUIET, id="f" * 32),
        attrs.evolve(VIF, counters=counted(300, 5000, 7, 70, src_mac=13, runt=1, oversize=2)),
    ),
    (attrs.evolve(WIRE, counters=counted(5, 300, 8, 400)),),
)


def test_rates_are_what_the_counters_rose_by_in_the_time_between() -> None:
    wire, one, two = rates_between(BEFORE, AFTER)

    assert one == Rates(
        "vif", "one", "alice", 4711, 100.0, 16000.0, 0.0, 0.0, {"src_mac": 5.0, "oversize": 1.0}
    )
    assert two == Rates("vif", "two", "20001", None, 0.0, 0.0, 0.0, 0.0, {})
    assert (wire.kind, wire.name, wire.tx_frames, wire.tx_bits) == ("uplink", "wire", 1.0, 160.0)


def test_counters_that_began_anew_rose_from_nothing() -> None:
    restarted = attrs.evolve(
        AFTER, vifs=(attrs.evolve(VIF, counters=counted(4, 40, 0, 0, runt=1)),), uplinks=()
    )

    (one,) = rates_between(BEFORE, restarted)

    assert (one.rx_frames, one.rx_bits, one.tx_frames) == (2.0, 160.0, 0.0)


def test_the_busiest_are_first_and_those_that_do_not_fit_are_counted() -> None:
    text = page_as_text(page_of_rates(rates_between(BEFORE, AFTER), 2, "the daemon is away"))

    assert text == (
        "vifs  2, 1 attached, 1 more than fit here\n"
        "note  the daemon is away\n"
        "\n"
        "PORT           OWNER   PID  FROM frame/s  bit/s  TO frame/s  bit/s  DROP/s  MOSTLY FOR\n"
        "wire (uplink)  -         -             0      0           1    160       0  -\n"
        "one            alice  4711           100    16k           0      0       6  src_mac\n"
    )


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (9.94, "9.9"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (16000.0, "16k"),
        (31.9e9, "32G"),
        (5e15, "5000T"),
    ],
)
def test_a_rate_has_three_digits_at_most_and_a_prefix(rate: float, text: str) -> None:
    assert short(rate) == text
