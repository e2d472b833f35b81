"""`filter binding`: which vif is bound to which filter, made and undone."""

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from multiplexer.cli.vif_sections import learned_facts
from pfinet_proto.control import FilterBindingInfo, LearnedInfo
from tests.cli.test_filter_definition import ctl, daemon
from tests.daemon.siblings import STATIC, Place

PORTS = (
    "<filter name='ports'><rule action='drop' direction='in'>"
    "<tcp dstportstart='$PORT'/></rule></filter>"
)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


async def made(tmp_path: Path) -> None:
    file = tmp_path / "ports.xml"
    file.write_text(PORTS)
    assert await ctl("filter", "define", file) == 0
    line = "vif create one --owner alice --address 10.77.0.11/24 --mac 52:54:00:00:00:01"
    assert await ctl(*line.split()) == 0


async def test_a_binding_is_made_listed_shown_and_deleted(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create = "filter binding create one ports --param PORT=80 --param PORT=443"
    async with daemon(place, monkeypatch):
        await made(tmp_path)
        capsys.readouterr()
        assert await ctl("filter", "binding", "list") == 0
        assert capsys.readouterr().out == "no vif is bound to a filter\n"

        assert await ctl(*create.split()) == 0
        assert capsys.readouterr().out == ""
        assert await ctl("filter", "binding", "list") == 0
        assert capsys.readouterr().out == (
            "VIF  FILTER  PARAMETERS\none  ports   PORT=80 PORT=443\n"
        )
        assert await ctl("filter", "binding", "show", "one") == 0
        assert capsys.readouterr().out == (
            "vif         one\n"
            "filter      ports\n"
            "parameters  PORT=80\n"
            "            PORT=443\n"
            "of the vif  IP=10.77.0.11\n"
            "            IPV6=fe80::5054:ff:fe00:1\n"
            "            MAC=52:54:00:00:00:01\n"
        )
        assert await ctl("vif", "show", "one") == 0
        shown = capsys.readouterr().out
        assert (
            "filter          ports\nparameters      PORT=80\n                PORT=443\n" in shown
        )

        assert await ctl(*create.split()) == 1
        assert capsys.readouterr().err == (
            'multiplexerctl: vif "one" is bound to filter "ports" already\n'
        )
        assert await ctl("filter", "binding", "delete", "one") == 0
        assert await ctl("filter", "binding", "show", "one") == 1
        assert "vif one is bound to no filter" in capsys.readouterr().err
        assert await ctl("filter", "binding", "delete", "one") == 1
        assert 'vif "one" is bound to no filter' in capsys.readouterr().err


def test_what_was_learned_is_told() -> None:
    binding = FilterBindingInfo("x", {}, {})
    assert list(learned_facts(binding)) == []
    first, second, third = map(ip_address, ("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    leases = LearnedInfo(first), LearnedInfo(second, third, 61), LearnedInfo(third, third)

    told = dict(learned_facts(FilterBindingInfo("x", {}, {}, leases, "dhcp")))

    assert told == {
        "learned": "IP=10.0.0.1\n"
        "IP=10.0.0.2 for 1 min 1 s, of 10.0.0.3\n"
        "IP=10.0.0.3 for ever, of 10.0.0.3",
        "learning": "dhcp",
    }


async def test_bindings_are_json_for_programs(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with daemon(place, monkeypatch):
        await made(tmp_path)
        assert await ctl("vif", "set", "one", "--filter", "ports", "--param", "PORT=80") == 0
        capsys.readouterr()
        assert await ctl("filter", "binding", "list", "--json") == 0
        listed = json.loads(capsys.readouterr().out)
        assert await ctl("filter", "binding", "show", "one", "--json") == 0

    assert listed == {"bindings": [json.loads(capsys.readouterr().out)]}
    (binding,) = listed["bindings"]
    assert (binding["vif"], binding["filter"]["name"]) == ("one", "ports")
    assert binding["filter"]["parameters"] == {"PORT": ["80"]}
    assert binding["filter"]["supplied"]["IP"] == ["10.77.0.11"]


async def test_a_binding_that_cannot_be_is_not_made(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with daemon(place, monkeypatch):
        await made(tmp_path)
        assert await ctl("filter", "binding", "create", "one", "ports") == 1
        assert "parameters are missing: 'PORT'" in capsys.readouterr().err
        assert await ctl("filter", "binding", "create", "one", "ports", "--param", "PORT=x") == 1
        assert "line 3: dstportstart: parameter PORT: 'x'" in capsys.readouterr().err
        assert await ctl("filter", "binding", "list", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"bindings": []}


async def test_the_files_own_vifs_are_bound_there(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with daemon(place, monkeypatch, STATIC):
        assert await ctl("filter", "binding", "create", "web", "allow-arp") == 1
    assert 'vif "web" is defined in' in capsys.readouterr().err
