"""Vifs that are bound to filters: what the engine has of it, over every change and failure."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_interface, ip_network

import attrs
import pytest
import trio

from multiplexer.config import parse_config
from multiplexer.daemon import channel
from multiplexer.daemon.definitions import library_of
from multiplexer.daemon.filtering import table_of
from multiplexer.model import ConfigError, FilterBinding, Vif
from multiplexer.policy.nwfilter.parse import parse_untrusted
from pfinet_proto.control import (
    ControlError,
    ErrorCode,
    FilterBindingInfo,
    FilterDefine,
    FilterDumpxml,
    FilterList,
    FilterUndefine,
    NetworkShow,
    Reload,
    Request,
    VifBorrow,
    VifCreate,
    VifDelete,
    VifInfo,
    VifSet,
    VifShow,
)
from pfinet_proto.values import MacAddress, Text, VifName
from tests.daemon.siblings import ALICE, BOB, STATIC, Place, Running, no_room, running, siblings

ONE = VifName.parse("one")
TWO = VifName.parse("two")
WEB = VifName.parse("web")
UUID = "6ef53069-ba34-94a0-d33d-17751b9b8cb1"

GRANT = '\n[grant.some]\nto = ["@bob"]\nnetwork = "lan"\naddresses = ["10.77.0.32/28"]\n'


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


def ports(port: object, name: str = "ports") -> str:
    return (
        f"<filter name='{name}'><uuid>{UUID}</uuid><rule action='drop' direction='in'>"
        f"<tcp dstportstart='{port}'/></rule></filter>"
    )


PORTS = FilterDefine(Text(ports("$PORT")))
ABOVE = FilterDefine(Text("<filter name='above'><filterref filter='ports'/></filter>"))


def a_vif(
    name: VifName, address: str, filter: str | None = None, **parameters: tuple[str, ...]
) -> VifCreate:
    return VifCreate(name, "alice", (ip_interface(address),), filter=filter, parameters=parameters)


FIRST = a_vif(ONE, "10.77.0.11/24", "ports", PORT=("80",))
SECOND = a_vif(TWO, "10.77.0.12/24", "above", PORT=("443", "8443"))


def expected(place: Place, vif: VifInfo, *texts: str, extra: str = "") -> bytes:
    """Return the table that *vif* must have, with filters of *texts* beside the stock ones."""
    config = parse_config(place.config(extra), "m.toml")
    library = library_of(
        attrs.evolve(each, uuid=each.uuid or UUID)
        for each in (parse_untrusted(text.encode()) for text in texts)
    )
    assert vif.filter is not None
    table = table_of(
        config,
        library,
        Vif(
            vif.id,
            vif.name,
            vif.owner_uid,
            None,
            vif.network,
            vif.mac,
            vif.addresses,
            vif.prefixes,
            filter=FilterBinding.of(vif.filter.name, vif.filter.parameters),
        ),
    )
    assert table is not None
    return table


async def refusal(daemon: Running, request: Request[object], uid: int = 0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await daemon.ask(request, uid)
    return caught.value


async def answer_into(
    answers: list[VifInfo | ControlError], daemon: Running, request: VifSet
) -> None:
    try:
        answers.append(await daemon.ask(request))
    except ControlError as error:
        answers.append(error)


def filters(daemon: Running) -> list[bytes]:
    """Return the tables in force by port; none is half on its way."""
    assert not daemon.engine.ready
    return [table for _, table in sorted(daemon.engine.filters.items())]


async def test_a_new_vif_is_judged_by_its_filter_before_anybody_can_attach(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        made = await daemon.ask(FIRST)

        assert filters(daemon) == [expected(place, made, PORTS.xml)]
        assert made.filter == FilterBindingInfo(
            "ports",
            {"PORT": ("80",)},
            {
                "IP": ("10.77.0.11",),
                "IPV6": (str(made.mac.link_local()),),
                "MAC": (str(made.mac),),
            },
        )
        assert await daemon.ask(VifShow(ONE), ALICE) == made
        assert any('filter="ports PORT=80"' in line for line in daemon.log)


async def test_a_vif_without_a_filter_costs_the_engine_nothing(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(a_vif(ONE, "10.77.0.11/24"))

        assert not daemon.engine.all(channel.PrepareFilter)


async def test_the_wire_is_asked_for_its_addresses_without_its_filter(place: Place) -> None:
    """One that lets only its own addresses out would keep the question in."""
    async with running(place) as daemon:
        await daemon.ask(a_vif(ONE, "10.77.0.11/24", "clean-traffic"))

        kinds = [type(message) for message in daemon.engine.heard]
        last_question = len(kinds) - kinds[::-1].index(channel.Inject)
        assert channel.PrepareFilter in kinds[last_question:]
        assert channel.PrepareFilter not in kinds[:last_question]


async def test_bindings_outlive_the_daemon(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(ABOVE)
        made = [await daemon.ask(each) for each in (FIRST, SECOND)]
        before = filters(daemon)
    async with running(place) as daemon:
        assert sorted(filters(daemon)) == sorted(before)
        assert [(await daemon.ask(VifShow(vif.name))).filter for vif in made] == [
            vif.filter for vif in made
        ]


@pytest.mark.parametrize(
    ("request_", "code", "why"),
    [
        (a_vif(ONE, "10.77.0.11/24", "nothing"), ErrorCode.INVALID, "are missing: 'nothing'"),
        (a_vif(ONE, "10.77.0.11/24", "ports"), ErrorCode.INVALID, "are missing: 'PORT'"),
        (
            a_vif(ONE, "10.77.0.11/24", "ports", PORT=("http",)),
            ErrorCode.INVALID,
            "filter 'ports', line 3: dstportstart: parameter PORT: 'http'",
        ),
        (
            VifCreate(
                ONE,
                "alice",
                prefixes=(ip_network("10.77.0.16/28"),),
                filter="clean-traffic",
                parameters={"CTRL_IP_LEARNING": ("none",)},
            ),
            ErrorCode.INVALID,
            "bound to no single address that could be IP",
        ),
        (
            a_vif(ONE, "10.77.0.11/24", PORT=("80",)),
            ErrorCode.INVALID,
            "parameters are for a filter",
        ),
    ],
)
async def test_a_vif_that_cannot_have_its_filter_is_not_made(
    place: Place, request_: VifCreate, code: ErrorCode, why: str
) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        error = await refusal(daemon, request_)

        assert (error.code, why in error.message) == (code, True), error.message
        assert (await refusal(daemon, VifShow(ONE))).code is ErrorCode.NOT_FOUND
        assert not daemon.engine.all(channel.SetVif)


async def test_users_bind_no_filters(place: Place) -> None:
    async with running(place, GRANT) as daemon:
        wanted = VifCreate(ONE, network="lan", filter="allow-arp")
        error = await refusal(daemon, wanted, BOB)
        assert error.code is ErrorCode.FORBIDDEN
        assert "binds a vif to a network filter" in error.message
        assert (await refusal(daemon, VifSet(ONE, filter="x"), BOB)).code is ErrorCode.FORBIDDEN
        assert (await daemon.ask(VifBorrow("lan"), BOB)).filter is None


PORTED = GRANT + 'vifs = 2\nfilter = "ports"\nparameters = { PORT = 80 }\n'
ASKED = VifCreate(ONE, network="lan")


async def test_a_granted_vif_has_the_filter_of_its_grant_however_often_it_is_made(
    place: Place,
) -> None:
    async with running(place, PORTED) as daemon:
        await daemon.ask(PORTS)
        borrowed = await daemon.ask(VifBorrow("lan"), BOB)
        for _ in range(2):
            made = await daemon.ask(ASKED, BOB)

            assert filters(daemon)[-1] == expected(place, made, PORTS.xml, extra=PORTED)
            for change in (VifSet(ONE, defaults=("filter",)), VifSet(ONE, parameters={})):
                assert (await refusal(daemon, change, BOB)).code is ErrorCode.FORBIDDEN
            await daemon.ask(VifDelete(ONE), BOB)
        assert filters(daemon) == [expected(place, borrowed, PORTS.xml, extra=PORTED)]


async def test_no_vif_is_made_by_a_grant_whose_filter_is_not_there(place: Place) -> None:
    async with running(place, PORTED) as daemon:
        error = await refusal(daemon, ASKED, BOB)

        why = 'grant "some": filter "ports" cannot be bound to vif "one": filters are missing:'
        assert (error.code, error.message) == (ErrorCode.UNAVAILABLE, f"{why} 'ports'")
        assert not daemon.engine.all(channel.SetVif)
        missing = "grant.some.filter: 'ports' not defined, so no vif can be made by it"
        assert any(missing in line for line in daemon.log)
        refused = [line for line in daemon.log if line.startswith("audit: refused")]
        assert ["filters are missing" in line for line in refused] == [True]
        await daemon.ask(PORTS)
        assert (await daemon.ask(ASKED, BOB)).filter is not None


async def test_a_reload_gives_the_filter_of_a_grant_to_new_vifs_and_names_those_without(
    place: Place,
) -> None:
    async with running(place, GRANT + "vifs = 2\n") as daemon:
        await daemon.ask(ASKED, BOB)
        daemon.broker.file = place.config(PORTED)
        reloaded = await daemon.ask(Reload())

        assert reloaded.changes == (
            "grant.some.filter: not set -> ports",
            "grant.some.parameters: none -> PORT=80",
        )
        missing, keeps = reloaded.warnings
        assert "'ports' not defined" in missing
        assert keeps.endswith("vif one keeps no filter: multiplexerctl vif set one changes that")
        assert (await daemon.ask(VifShow(ONE))).filter is None

        await daemon.ask(PORTS)
        second = await daemon.ask(VifCreate(TWO, network="lan"), BOB)
        assert second.filter is not None
        assert (await daemon.ask(Reload())).warnings == ()

        daemon.broker.file = place.config(GRANT + "vifs = 2\n")
        (keeps,) = (await daemon.ask(Reload())).warnings
        assert 'vif two keeps filter "ports PORT=80":' in keeps
        assert filters(daemon) == [expected(place, second, PORTS.xml, extra=GRANT)]


OF_LAN = "[network.lan]\nfilter = 'allow-arp'\n"
PARAMETRIC = "[network.lan]\nfilter = 'ports'\nparameters = { PORT = 80 }\n"
GRANTED = GRANT + "vifs = 3\n"


def in_lan(place: Place, lines: str, extra: str = "") -> str:
    """Return the file with *lines* in its network lan."""
    return place.config(extra).replace("[network.lan]\n", lines)


async def test_a_vif_has_the_filter_of_its_network_unless_another_is_said(place: Place) -> None:
    granted = GRANTED + "filter = 'allow-ipv4'\n"
    async with running(place, granted + STATIC + "filter = 'allow-ipv6'\n") as daemon:
        for extra, of_grant, of_file in (
            (granted + STATIC + "filter = 'allow-ipv6'\n", "allow-ipv4", "allow-ipv6"),
            (GRANTED + STATIC, "ports", "ports"),
        ):
            await daemon.ask(PORTS)
            daemon.broker.file = in_lan(place, PARAMETRIC, extra)
            assert (await daemon.ask(Reload())).applied
            made = {
                "ports": await daemon.ask(a_vif(ONE, "10.77.0.11/24")),
                "clean-traffic": await daemon.ask(a_vif(TWO, "10.77.0.12/24", "clean-traffic")),
                of_grant: await daemon.ask(VifBorrow("lan"), BOB),
            }
            made[of_file] = await daemon.ask(VifShow(WEB))

            for name, vif in made.items():
                assert vif.filter is not None
                port_80 = {"PORT": ("80",)} if name == "ports" else {}
                assert (vif.filter.name, vif.filter.parameters) == (name, port_80)
                table = expected(place, vif, PORTS.xml, extra=extra)
                assert daemon.engine.filters[port_of(daemon, vif)] == table
            await daemon.ask(VifDelete(ONE))
            await daemon.ask(VifDelete(TWO))


def port_of(daemon: Running, vif: VifInfo) -> int:
    return next(port for port, each in daemon.engine.ports.items() if each.vif_id == vif.id)


async def test_only_an_administrator_can_override_the_filter_of_a_network(place: Place) -> None:
    async with running(place, GRANTED) as daemon:
        daemon.broker.file = in_lan(place, OF_LAN, GRANTED)
        await daemon.ask(Reload())
        for _ in range(2):
            made = await daemon.ask(ASKED, BOB)
            assert made.filter is not None
            assert made.filter.name == "allow-arp"
            none = VifSet(ONE, defaults=("filter",))
            assert (await refusal(daemon, none, BOB)).code is ErrorCode.FORBIDDEN
            assert (await daemon.ask(none)).filter is None
            # Neither does a reload undo that.
            assert (await daemon.ask(Reload())).warnings == ()
            assert (await daemon.ask(VifShow(ONE))).filter is None
            await daemon.ask(VifDelete(ONE), BOB)


async def test_a_reload_binds_vifs_of_the_file_to_the_filter_of_their_network_and_names_others(
    place: Place,
) -> None:
    async with running(place, STATIC + GRANTED) as daemon:
        await daemon.ask(a_vif(ONE, "10.77.0.11/24"))
        await daemon.ask(a_vif(TWO, "10.77.0.12/24", "clean-traffic"))
        borrowed = await daemon.ask(VifBorrow("lan"), BOB)
        daemon.broker.file = in_lan(place, OF_LAN, STATIC + GRANTED)
        reloaded = await daemon.ask(Reload())

        assert reloaded.errors == ()
        assert reloaded.changes == ("network.lan.filter: not set -> allow-arp",)
        assert (await daemon.ask(NetworkShow("lan"))).filter == "allow-arp"
        assert (await daemon.ask(NetworkShow("lab"))).filter is None
        assert [line.split(": ")[1:3] for line in reloaded.warnings] == [
            ["network.lan.filter", f"vif {name} keeps no filter"]
            for name in sorted((str(borrowed.name), "one"))
        ]
        web = (await daemon.ask(VifShow(WEB))).filter
        assert (await daemon.ask(VifShow(ONE))).filter is None
        assert web is not None
        assert web.name == "allow-arp"

        daemon.broker.file = place.config(STATIC + GRANTED)
        assert (await daemon.ask(Reload())).warnings == ()
        assert (await daemon.ask(VifShow(WEB))).filter is None
        assert len(filters(daemon)) == 1


async def test_what_a_network_says_that_is_not_there_binds_nobody(place: Place) -> None:
    async with running(place, GRANTED) as daemon:
        daemon.broker.file = in_lan(place, PARAMETRIC, GRANTED)
        (missing,) = (await daemon.ask(Reload())).warnings
        why = "not defined, so no vif can be made in it without another"
        assert missing.endswith(f": network.lan.filter: 'ports' {why}")
        why = 'network "lan": filter "ports" cannot be bound to vif "one": filters are missing:'
        for request, uid in ((a_vif(ONE, "10.77.0.11/24"), 0), (ASKED, BOB)):
            error = await refusal(daemon, request, uid)
            assert (error.code, error.message) == (ErrorCode.UNAVAILABLE, f"{why} 'ports'")
        other = await daemon.ask(a_vif(TWO, "10.77.0.12/24", "allow-arp"))
        assert other.filter is not None

        # A vif of the file cannot be without.
        daemon.broker.file = in_lan(place, PARAMETRIC, STATIC)
        reloaded = await daemon.ask(Reload())
        assert not reloaded.applied
        (wrong,) = reloaded.errors
        assert ': network.lan.filter: filter "ports" cannot be bound to vif "web"' in wrong


async def test_of_two_who_bind_a_vif_at_once_one_is_refused(place: Place) -> None:
    """And of two who unbind it: whoever is second does not undo what the first did."""
    bind = VifSet(ONE, filter="clean-traffic", if_filtered=False)
    other = attrs.evolve(bind, filter="allow-ipv4")
    unbind = VifSet(ONE, defaults=("filter",), if_filtered=True)
    async with running(place) as daemon:
        await daemon.ask(a_vif(ONE, "10.77.0.11/24"))
        for pair, why in (
            ((bind, other), 'vif "one" is bound to filter "'),
            ((unbind, unbind), 'vif "one" is bound to no filter'),
        ):
            answers: list[VifInfo | ControlError] = []
            async with trio.open_nursery() as nursery:
                for request in pair:
                    nursery.start_soon(answer_into, answers, daemon, request)

            (done,) = (each for each in answers if isinstance(each, VifInfo))
            (error,) = (each for each in answers if isinstance(each, ControlError))
            assert error.code is ErrorCode.CONFLICT
            assert why in error.message
            assert await daemon.ask(VifShow(ONE)) == done


async def test_a_change_of_filter_parameters_or_addresses_is_another_table(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(a_vif(ONE, "10.77.0.11/24"))
        seen = []
        for change in (
            VifSet(ONE, filter="ports", parameters={"PORT": ("80",)}),
            VifSet(ONE, parameters={"PORT": ("80", "81")}),
            VifSet(ONE, filter="clean-traffic"),
            VifSet(ONE, add_addresses=(ip_interface("10.77.0.13/24"),)),
            VifSet(ONE, mac=MacAddress.parse("52:54:00:00:00:0b")),
        ):
            info = await daemon.ask(change)
            assert filters(daemon) == [expected(place, info, PORTS.xml)]
            seen += filters(daemon)
        assert len(set(seen)) == len(seen)

        assert (await daemon.ask(VifSet(ONE, defaults=("filter",)))).filter is None
        assert filters(daemon) == []


async def test_a_change_that_does_not_concern_the_filter_leaves_it_alone(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(a_vif(ONE, "10.77.0.11/24", "clean-traffic"))
        before = len(daemon.engine.all(channel.CommitFilters))
        await daemon.ask(VifSet(ONE, owner="bob"))

        assert len(daemon.engine.all(channel.CommitFilters)) == before


@pytest.mark.parametrize("kind", [channel.PrepareFilter, channel.SetVif])
async def test_a_change_that_the_engine_refuses_leaves_row_and_filter(
    place: Place, kind: type[channel.Message]
) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        made = await daemon.ask(FIRST)
        before = filters(daemon)
        daemon.engine.once[kind] = "no room"
        change = VifSet(
            ONE, filter="clean-traffic", add_addresses=(ip_interface("10.77.0.13/24"),)
        )

        assert (await refusal(daemon, change)).code is ErrorCode.UNAVAILABLE
        assert filters(daemon) == before
        assert await daemon.ask(VifShow(ONE)) == made


async def test_a_change_that_cannot_be_stored_leaves_row_and_filter(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        made = await daemon.ask(FIRST)
        before = filters(daemon)
        with no_room():
            error = await refusal(daemon, VifSet(ONE, filter="clean-traffic"))

        assert error.code is ErrorCode.UNAVAILABLE
        assert filters(daemon) == before
        assert await daemon.ask(VifShow(ONE)) == made
        rows = [message.row for message in daemon.engine.all(channel.SetVif)]
        assert rows[-1] == rows[-2]


async def test_a_vif_whose_filter_the_engine_refuses_is_not_made(place: Place) -> None:
    async with running(place) as daemon:
        daemon.engine.once[channel.PrepareFilter] = "no room"

        error = await refusal(daemon, a_vif(ONE, "10.77.0.11/24", "clean-traffic"))
        assert error.code is ErrorCode.UNAVAILABLE
        assert (await refusal(daemon, VifShow(ONE))).code is ErrorCode.NOT_FOUND
        assert daemon.engine.ports == {}


async def test_a_deleted_vif_lets_its_filter_go(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(FIRST)
        error = await refusal(daemon, FilterUndefine("ports"))
        assert (error.code, error.message) == (
            ErrorCode.CONFLICT,
            "filter 'ports' is in use by vif one",
        )
        await daemon.ask(VifDelete(ONE))

        assert filters(daemon) == []
        await daemon.ask(FilterUndefine("ports"))


async def test_a_filter_below_that_of_a_vif_is_in_use(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(ABOVE)
        await daemon.ask(SECOND)

        assert "in use by vif two" in (await refusal(daemon, FilterUndefine(UUID))).message
        counts = {each.name: each.vifs for each in (await daemon.ask(FilterList())).filters}
        assert (counts["ports"], counts["above"], counts["clean-traffic"]) == (1, 1, 0)


async def test_every_vif_below_a_changed_filter_switches_at_once(place: Place) -> None:
    changed = FilterDefine(Text(ports("$PORT").replace("'drop'", "'reject'")))
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(ABOVE)
        made = [await daemon.ask(each) for each in (FIRST, SECOND)]
        await daemon.ask(a_vif(VifName.parse("other"), "10.77.0.14/24", "clean-traffic"))
        before = filters(daemon)
        heard = len(daemon.engine.heard)

        await daemon.ask(changed)

        new = [message for message in daemon.engine.heard[heard:] if hasattr(message, "request")]
        kinds = [type(message) for message in new]
        assert kinds == [channel.PrepareFilter, channel.PrepareFilter, channel.CommitFilters]
        after = filters(daemon)
        assert after[:2] == [expected(place, vif, changed.xml, ABOVE.xml) for vif in made]
        assert after[:2] != before[:2]
        assert after[2] == before[2]


async def test_the_same_definition_again_is_no_switch(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(FIRST)
        heard = len(daemon.engine.all(channel.PrepareFilter))
        await daemon.ask(FilterDefine(Text("<!-- again -->\n" + ports("$PORT"))))

        assert len(daemon.engine.all(channel.PrepareFilter)) == heard


async def is_unchanged(daemon: Running, text: str, tables: list[bytes]) -> bool:
    return (await daemon.ask(FilterDumpxml("ports"))).xml == text and filters(daemon) == tables


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (ports("$OTHER"), "vif \"one\": parameters are missing: 'OTHER'"),
        (ports("$PORT[1]"), "vif \"one\": parameters are missing: 'PORT[1]'"),
        (ports("80").replace("<rule", "<filterref filter='no'/><rule", 1), "are missing: 'no'"),
    ],
)
async def test_a_change_that_one_vif_cannot_take_changes_nothing(
    place: Place, changed: str, why: str
) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(ABOVE)
        for each in (FIRST, SECOND):
            await daemon.ask(each)
        text, tables = (await daemon.ask(FilterDumpxml("ports"))).xml, filters(daemon)

        error = await refusal(daemon, FilterDefine(Text(changed)))

        assert error.code is ErrorCode.INVALID
        assert why in error.message
        assert await is_unchanged(daemon, text, tables)


async def test_a_change_that_the_engine_takes_for_one_vif_alone_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(ABOVE)
        for each in (FIRST, SECOND):
            await daemon.ask(each)
        text, tables = (await daemon.ask(FilterDumpxml("ports"))).xml, filters(daemon)
        last = max(daemon.engine.filters)

        def refuse_last(message: channel.Message) -> str | None:
            is_last = isinstance(message, channel.PrepareFilter) and message.port == last
            return "no room" if is_last else None

        with monkeypatch.context() as patched:
            patched.setattr(daemon.engine, "refusal", refuse_last)
            error = await refusal(daemon, FilterDefine(Text(ports("81"))))

        assert error.code is ErrorCode.UNAVAILABLE
        assert await is_unchanged(daemon, text, tables)
        with no_room():
            await refusal(daemon, FilterDefine(Text(ports("81"))))
        assert await is_unchanged(daemon, text, tables)
        await daemon.ask(FilterDefine(Text(ports("81"))))
        assert not await is_unchanged(daemon, text, tables)


async def test_a_definition_counts_for_the_next_vif(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(FilterDefine(Text(ports("81"))))
        made = await daemon.ask(FIRST)

        assert filters(daemon) == [expected(place, made, ports("81"))]


FILTERED = STATIC + 'filter = "ports"\nparameters = { PORT = [80, 81] }\n'


async def test_a_vif_of_the_file_has_its_filter_once_that_is_defined(place: Place) -> None:
    async with running(place, STATIC) as daemon:
        daemon.broker.file = place.config(FILTERED)
        reloaded = await daemon.ask(Reload())
        assert not reloaded.applied
        assert 'vif.web.filter: filter "ports" cannot be bound' in reloaded.errors[0]
        assert filters(daemon) == []

        await daemon.ask(PORTS)
        reloaded = await daemon.ask(Reload())
        assert reloaded.applied
        assert "vif.web.filter: not set -> ports" in reloaded.changes
        web = await daemon.ask(VifShow(WEB))
        assert filters(daemon) == [expected(place, web, PORTS.xml, extra=FILTERED)]
        assert "in use by vif web" in (await refusal(daemon, FilterUndefine("ports"))).message

    async with running(place, FILTERED) as daemon:
        assert filters(daemon) == [expected(place, web, PORTS.xml, extra=FILTERED)]
        daemon.broker.file = place.config(STATIC)
        assert (await daemon.ask(Reload())).applied
        assert filters(daemon) == []


async def test_a_reload_that_changes_what_a_vif_is_bound_to_changes_its_table(
    place: Place,
) -> None:
    async with running(place, STATIC + 'filter = "clean-traffic"\n') as daemon:
        moved = STATIC.replace("10.77.0.80", "10.77.0.81") + 'filter = "clean-traffic"\n'
        daemon.broker.file = place.config(moved)
        assert (await daemon.ask(Reload())).applied

        web = await daemon.ask(VifShow(WEB))
        assert filters(daemon) == [expected(place, web, extra=moved)]


async def test_the_daemon_does_not_start_with_a_vif_of_the_file_that_would_be_unfiltered(
    place: Place,
) -> None:
    async with siblings(place) as made:
        await made.broker.start(place.config(FILTERED))
        with pytest.raises(ExceptionGroup) as caught:
            await made.control.run()

    assert caught.group_contains(ConfigError, match='vif.web.filter: filter "ports" cannot be')


async def test_a_stored_vif_that_would_be_unfiltered_is_set_aside(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(PORTS)
        await daemon.ask(FIRST)
    with closing(sqlite3.connect(place.state_dir / "state.db")) as connection, connection:
        connection.execute("DELETE FROM filter")
    async with running(place) as daemon:
        error = await refusal(daemon, VifShow(ONE))
        assert error.code is ErrorCode.CONFLICT
        assert 'is set aside, since filter "ports" cannot be bound' in error.message
        assert filters(daemon) == []
        assert not daemon.engine.all(channel.SetVif)
