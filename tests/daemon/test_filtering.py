"""Which vifs may have their filter, and what becomes of those that may not."""

from ipaddress import ip_interface, ip_network

import attrs
import pytest

from multiplexer.daemon.authorize import Refused
from multiplexer.daemon.filtering import (
    amended_binding,
    check_static,
    part_stored,
    read_binding,
    table_of,
)
from multiplexer.model import (
    Config,
    ConfigError,
    FilterBinding,
    Mode,
    Network,
    Origin,
    Vif,
)
from multiplexer.policy.nwfilter.library import Library
from multiplexer.stock import stock_filters
from pfinet_proto.control import VifSet
from pfinet_proto.values import MacAddress, VifName

CONFIG = Config(
    networks=(Network("lan", Mode.SWITCH, None, (ip_network("10.0.0.0/24"),)),),
    origin=Origin("m.toml", {("vif", "web"): 3, ("vif", "web", "filter"): 5}),
)
LIBRARY = Library(stock_filters())
NAME = VifName("web")
VIF = Vif(
    "a" * 32,
    NAME,
    20001,
    None,
    "lan",
    MacAddress.parse("52:54:00:00:00:01"),
    (ip_interface("10.0.0.5/24"),),
)
GOOD = attrs.evolve(VIF, filter=FilterBinding("clean-traffic"))
BAD = attrs.evolve(VIF, filter=FilterBinding("nothing"))
WHY = 'filter "nothing" cannot be bound to vif "web": filters are missing: \'nothing\''


def test_a_filter_that_cannot_be_bound_is_refused_with_vif_and_filter() -> None:
    assert table_of(CONFIG, LIBRARY, VIF) is None
    assert table_of(CONFIG, LIBRARY, GOOD) is not None
    with pytest.raises(Refused) as caught:
        table_of(CONFIG, LIBRARY, BAD)

    assert (caught.value.code, caught.value.message) == ("invalid", WHY)


def test_a_vif_of_the_file_without_its_filter_is_an_error_at_its_line() -> None:
    check_static(CONFIG, LIBRARY, [GOOD, VIF])
    with pytest.raises(ConfigError) as caught:
        check_static(CONFIG, LIBRARY, [GOOD, BAD])

    assert caught.value.problems == (f"m.toml:5: vif.web.filter: {WHY}",)


def test_a_vif_of_an_earlier_run_without_its_filter_is_set_aside() -> None:
    kept, refused = part_stored(CONFIG, LIBRARY, [VIF, BAD, GOOD])

    assert kept == (VIF, GOOD)
    assert [(vif, str(why)) for vif, why in refused] == [(BAD, WHY)]


def test_parameters_come_with_a_filter() -> None:
    assert read_binding(None, {}) is None
    assert read_binding("web", {"B": ("1", "2"), "A": ("3",)}) == FilterBinding(
        "web", (("A", ("3",)), ("B", ("1", "2")))
    )
    with pytest.raises(Refused, match="parameters are for a filter"):
        read_binding(None, {"A": ("1",)})


NOW = FilterBinding("web", (("A", ("1",)),))


@pytest.mark.parametrize(
    ("now", "change", "then"),
    [
        (NOW, VifSet(NAME), NOW),
        (NOW, VifSet(NAME, filter="other"), FilterBinding("other")),
        (NOW, VifSet(NAME, filter="web"), FilterBinding("web")),
        (
            NOW,
            VifSet(NAME, filter="x", parameters={"B": ("2",)}),
            FilterBinding("x", (("B", ("2",)),)),
        ),
        (NOW, VifSet(NAME, parameters={"B": ("2",)}), FilterBinding("web", (("B", ("2",)),))),
        (NOW, VifSet(NAME, parameters={}), FilterBinding("web")),
        (NOW, VifSet(NAME, defaults=("filter",)), None),
        (None, VifSet(NAME, filter="web"), FilterBinding("web")),
        (None, VifSet(NAME, defaults=("filter",)), None),
        (NOW, VifSet(NAME, filter="x", if_filtered=True), FilterBinding("x")),
        (None, VifSet(NAME, filter="x", if_filtered=False), FilterBinding("x")),
    ],
)
def test_a_change_replaces_what_it_gives_and_another_filter_comes_without_parameters(
    now: FilterBinding | None, change: VifSet, then: FilterBinding | None
) -> None:
    assert amended_binding(now, change) == then


@pytest.mark.parametrize(
    ("now", "change"),
    [
        (NOW, VifSet(NAME, filter="web", defaults=("filter",))),
        (NOW, VifSet(NAME, parameters={}, defaults=("filter",))),
        (None, VifSet(NAME, parameters={"A": ("1",)})),
        (NOW, VifSet(NAME, filter="web", if_filtered=False)),
        (None, VifSet(NAME, filter="web", if_filtered=True)),
    ],
)
def test_a_change_that_contradicts_itself_is_refused(
    now: FilterBinding | None, change: VifSet
) -> None:
    with pytest.raises(Refused):
        amended_binding(now, change)
