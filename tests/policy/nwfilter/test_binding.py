"""A filter bound to a vif: what it gets from the vif, what from its administrator."""

from ipaddress import ip_interface, ip_network

import attrs
import pytest

from multiplexer.model import FilterBinding, Mode, Network, Vif
from multiplexer.policy.nwfilter.binding import compile_bound, given, supplied
from multiplexer.policy.nwfilter.compile import compile_bytes
from multiplexer.policy.nwfilter.errors import BindError
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.policy.nwfilter.resolve import resolve
from multiplexer.policy.nwfilter.syntax import Parameter
from multiplexer.stock import stock_filters
from pfinet_proto.values import MacAddress, VifName

LAN = Network("lan", Mode.SWITCH, None, (ip_network("10.0.0.0/24"), ip_network("fd00::/64")))
VIF = Vif(
    "a" * 32,
    VifName("web"),
    20001,
    None,
    "lan",
    MacAddress.parse("52:54:00:00:00:01"),
    (ip_interface("10.0.0.5/24"), ip_interface("10.0.0.6/24"), ip_interface("fd00::5/64")),
)
PREFIX_ONLY = attrs.evolve(VIF, addresses=(), prefixes=(ip_network("10.0.0.16/28"),))


def bound(name: str, **parameters: tuple[str, ...]) -> Vif:
    return attrs.evolve(VIF, filter=FilterBinding.of(name, parameters))


def test_a_vif_supplies_its_mac_and_every_address_that_its_stack_may_use() -> None:
    """Deviation: own-addresses."""
    assert supplied(LAN, VIF) == (
        Parameter("IP", ("10.0.0.5", "10.0.0.6")),
        Parameter("IPV6", ("fd00::5", "fe80::5054:ff:fe00:1", "fd00::5054:ff:fe00:1")),
        Parameter("MAC", ("52:54:00:00:00:01",)),
    )


def test_an_address_that_is_bound_and_derived_is_supplied_once() -> None:
    own = attrs.evolve(VIF, addresses=(ip_interface("fd00::5054:ff:fe00:1/64"),))

    assert supplied(LAN, own)[0] == Parameter(
        "IPV6", ("fd00::5054:ff:fe00:1", "fe80::5054:ff:fe00:1")
    )


def test_a_prefix_supplies_no_address() -> None:
    names = [parameter.name for parameter in supplied(LAN, PREFIX_ONLY)]

    assert names == ["IPV6", "MAC"]


def test_no_filter_is_no_table() -> None:
    assert compile_bound(LAN, VIF, stock_filters(), {}) is None


def test_a_filter_is_compiled_with_what_the_vif_supplies() -> None:
    rules = resolve("clean-traffic", stock_filters(), supplied(LAN, VIF))

    table = compile_bound(LAN, bound("clean-traffic"), stock_filters(), {})

    assert table == compile_bytes(rules, {})


def test_what_is_given_goes_before_what_the_vif_supplies() -> None:
    """As with libvirt, whose bindings may give MAC and IP of their own."""
    parameters = (Parameter("IP", ("10.0.0.5",)), *supplied(LAN, VIF)[1:])
    rules = resolve("clean-traffic", stock_filters(), parameters)

    table = compile_bound(LAN, bound("clean-traffic", IP=("10.0.0.5",)), stock_filters(), {})

    assert table == compile_bytes(rules, {})
    assert table != compile_bound(LAN, bound("clean-traffic"), stock_filters(), {})


@pytest.mark.parametrize(
    ("vif", "why"),
    [
        (bound("nothing"), "filters are missing: 'nothing'"),
        (bound("half"), "filters are missing: 'lost'"),
        (bound("ports"), "parameters are missing: 'PORT'"),
        (bound("ports", PORT=("http",)), "filter 'ports', line 2: dstportstart: parameter PORT"),
        (bound("ports", PORT=("a/b",)), "'a/b' is not a parameter's value"),
        (bound("ports", **{"A-B": ("1",)}), "'A-B' is not a parameter's name"),
        (bound("ports", PORT=()), "parameter PORT has no value"),
        (
            bound("ports", PORT=("1",), CTRL_IP_LEARNING=("arp",)),
            "CTRL_IP_LEARNING is 'arp', wanted one of any, dhcp, none",
        ),
        (bound("sets"), "set"),
        (
            attrs.evolve(
                PREFIX_ONLY,
                filter=FilterBinding.of("clean-traffic", {"CTRL_IP_LEARNING": ["none"]}),
            ),
            "parameters are missing: 'IP'; the vif is bound to no single address",
        ),
    ],
)
def test_a_binding_that_would_keep_a_rule_from_its_effect_is_refused(vif: Vif, why: str) -> None:
    own = (
        "<filter name='ports'>\n<rule action='drop' direction='in'>"
        "<tcp dstportstart='$PORT'/></rule></filter>",
        "<filter name='half'><filterref filter='lost'/></filter>",
        "<filter name='sets'><rule action='drop' direction='in'>"
        "<all ipset='bad' ipsetflags='src'/></rule></filter>",
    )
    filters = {each.name: each for each in (parse_untrusted(text.encode()) for text in own)}

    with pytest.raises(BindError) as caught:
        compile_bound(LAN, vif, {**stock_filters(), **filters}, {})

    assert why in str(caught.value)


@pytest.mark.parametrize("parameters", [{"A-B": ["1"]}, {"NET": ["10.0.0.0/8"]}, {"A": [""]}])
def test_a_parameter_that_cannot_be_is_no_parameter_left_out(
    parameters: dict[str, list[str]],
) -> None:
    """Deviation: parameters."""
    with pytest.raises(BindError, match="is not a parameter's"):
        given(FilterBinding.of("x", parameters))


@pytest.mark.parametrize("mode", ["any", "DHCP", "None"])
def test_modes_of_learning_are_libvirts(mode: str) -> None:
    assert given(FilterBinding.of("x", {"CTRL_IP_LEARNING": [mode]})) == (
        Parameter("CTRL_IP_LEARNING", (mode,)),
    )
