"""Filters are defined, shown and forgotten for administrators, and outlive the daemon."""

import re
from collections.abc import Iterator

import pytest

from multiplexer.policy.nwfilter.canonical import canonical
from multiplexer.policy.nwfilter.parse import parse_untrusted
from multiplexer.stock import stock_filters
from pfinet_proto.control import (
    MAX_LONG_REQUEST_BYTES,
    MAX_REQUEST_BYTES,
    ControlError,
    Deleted,
    ErrorCode,
    FilterDefine,
    FilterDumpxml,
    FilterInfo,
    FilterList,
    FilterUndefine,
    Request,
)
from pfinet_proto.framing import encode_record
from pfinet_proto.values import Text
from tests.daemon.siblings import ALICE, Place, Running, no_room, running

UUID = "6ef53069-ba34-94a0-d33d-17751b9b8cb1"
OTHER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def place() -> Iterator[Place]:
    with Place.made() as place:
        yield place


def written(name: str, body: str = "", uuid: str | None = None, **more: str) -> FilterDefine:
    given = f"<uuid>{uuid}</uuid>" if uuid else ""
    chain = more.get("chain", "root")
    return FilterDefine(Text(f"<filter name='{name}' chain='{chain}'>{given}{body}</filter>"))


async def refusal(daemon: Running, request: Request[object], uid: int = 0) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await daemon.ask(request, uid)
    return caught.value


async def text_of(daemon: Running, which: str) -> str:
    return (await daemon.ask(FilterDumpxml(which))).xml


async def test_a_defined_filter_is_listed_among_the_stock_filters(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(written("web", uuid=UUID, chain="ipv4-web"))
        listed = (await daemon.ask(FilterList())).filters

    assert made == FilterInfo("web", UUID, "ipv4-web", -700, stock=False, vifs=0)
    assert made in listed
    assert [each.name for each in listed] == sorted(["web", *stock_filters()])
    assert [each.name for each in listed if not each.stock] == ["web"]
    assert len({each.uuid for each in listed}) == len(listed)


async def test_definitions_outlive_the_daemon_and_stock_filters_keep_their_uuids(
    place: Place,
) -> None:
    async with running(place) as daemon:
        await daemon.ask(written("web", "<rule action='drop' direction='in'/>"))
        before = await daemon.ask(FilterList())
        text = await text_of(daemon, "web")
    async with running(place) as daemon:
        assert await daemon.ask(FilterList()) == before
        assert await text_of(daemon, "web") == text


async def test_a_filter_is_shown_in_its_one_form_by_name_and_by_uuid(place: Place) -> None:
    request = written(
        "web", "<rule direction='in' action='drop'><tcp dstportstart='0x16'/></rule>"
    )
    async with running(place) as daemon:
        made = await daemon.ask(request)
        text = await text_of(daemon, "web")

        assert text == await text_of(daemon, made.uuid)
        assert text == canonical(parse_untrusted(text.encode()))
        assert "<tcp dstportstart='0x16'/>" in text
        stock = await daemon.ask(FilterDumpxml("no-mac-spoofing"))
        assert stock.stock
        assert stock.uuid in stock.xml


async def test_a_change_keeps_the_uuid_and_counts_as_one_only_if_it_is_one(place: Place) -> None:
    async with running(place) as daemon:
        first = await daemon.ask(written("web"))
        again = await daemon.ask(written("web", uuid=first.uuid))
        changed = await daemon.ask(written("web", "<rule action='drop' direction='in'/>"))

        assert first == again == changed
        noted = [line for line in daemon.log if "filter-defined" in line]
        assert noted == [
            f"audit: filter-defined filter=web uuid={first.uuid} {line.split(' ', 4)[4]}"
            for line in noted
        ]
        assert len(noted) == 2


@pytest.mark.parametrize(
    ("request_", "code", "why"),
    [
        (written("web", uuid=OTHER), ErrorCode.CONFLICT, "already exists with uuid"),
        (written("new", uuid=UUID), ErrorCode.CONFLICT, f"uuid {UUID} is that of filter 'web'"),
        (written("clean-traffic"), ErrorCode.CONFLICT, "'clean-traffic' is a stock filter"),
        (
            written("web", "<filterref filter='web'/>", uuid=UUID),
            ErrorCode.INVALID,
            "in a loop: 'web' -> 'web'",
        ),
        (
            FilterDefine(Text("<filter name='a'>\n <rul/></filter>"), source="a.xml"),
            ErrorCode.INVALID,
            "a.xml:2:2: ",
        ),
        (FilterUndefine("new"), ErrorCode.NOT_FOUND, "there is no filter 'new'"),
        (FilterUndefine("clean-traffic"), ErrorCode.CONFLICT, "which nobody removes"),
        (FilterDumpxml(OTHER), ErrorCode.NOT_FOUND, f"there is no filter '{OTHER}'"),
    ],
)
async def test_what_may_not_be_is_told_and_changes_nothing(
    place: Place, request_: Request[object], code: ErrorCode, why: str
) -> None:
    async with running(place) as daemon:
        await daemon.ask(written("web", uuid=UUID))
        before, text = await daemon.ask(FilterList()), await text_of(daemon, "web")

        error = await refusal(daemon, request_)

        assert error.code is code
        assert why in error.message
        assert (await daemon.ask(FilterList()), await text_of(daemon, "web")) == (before, text)


async def test_a_filter_that_is_longer_as_it_is_kept_is_refused_by_its_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(place) as daemon:
        for module in ("elements", "library"):
            monkeypatch.setattr(f"multiplexer.policy.nwfilter.{module}.MAX_DOCUMENT_LEN", 400)
        error = await refusal(daemon, written("web", "<rule action='drop' direction='in'/>" * 8))

    assert error.code is ErrorCode.INVALID
    assert re.fullmatch(
        r"filter 'web' takes \d+ bytes as it is kept, wanted at most 400", error.message
    )


async def test_lenient_takes_what_strict_refuses_and_it_can_be_read_again(place: Place) -> None:
    text = Text(
        "<filter name='my filter'><rule action='drop' direction='in'><odd/></rule></filter>"
    )
    async with running(place) as daemon:
        assert (await refusal(daemon, FilterDefine(text))).code is ErrorCode.INVALID
        made = await daemon.ask(FilterDefine(text, lenient=True))
    async with running(place) as daemon:
        assert made in (await daemon.ask(FilterList())).filters


async def test_a_forgotten_filter_is_gone_for_good(place: Place) -> None:
    async with running(place) as daemon:
        made = await daemon.ask(written("web"))
        assert await daemon.ask(FilterUndefine(made.uuid)) == Deleted()
        assert any(
            line.startswith(f"audit: filter-undefined filter=web uuid={made.uuid} ")
            for line in daemon.log
        )
    async with running(place) as daemon:
        assert (await refusal(daemon, FilterDumpxml("web"))).code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    "request_",
    [FilterList(), FilterDumpxml("clean-traffic"), written("web"), FilterUndefine("web")],
)
async def test_filters_are_the_administrators_alone(
    place: Place, request_: Request[object]
) -> None:
    async with running(place) as daemon:
        assert (await refusal(daemon, request_, ALICE)).code is ErrorCode.FORBIDDEN
        assert any("audit: refused" in line for line in daemon.log)


async def test_a_filter_that_cannot_be_kept_is_not_defined(place: Place) -> None:
    async with running(place) as daemon:
        await daemon.ask(written("web", uuid=UUID))
        before = await text_of(daemon, "web")
        with no_room():
            changed = written("web", "<rule action='drop' direction='in'/>")
            errors = [await refusal(daemon, each) for each in (changed, FilterUndefine("web"))]

        assert {error.code for error in errors} == {ErrorCode.UNAVAILABLE}
        assert await text_of(daemon, "web") == before
        await daemon.ask(changed)


async def test_only_an_administrator_may_send_a_filter_of_many_rules(place: Place) -> None:
    row = "<rule action='drop' direction='in'><tcp dstportstart='22'/></rule>"
    request = written("web", row * 2000)
    assert MAX_REQUEST_BYTES < len(request.xml) < MAX_LONG_REQUEST_BYTES
    async with running(place) as daemon:
        await daemon.ask(request)
        assert (await text_of(daemon, "web")).count("<tcp ") == 2000
        async with daemon.asker(ALICE) as asker:
            # It is not waited for: who announces it is left.
            await asker.stream.send_all(encode_record(b"x" * (MAX_REQUEST_BYTES + 1))[:100])
            assert await asker.stream.receive_some() == b""
