"""Lines of the log and of the audit trail."""

import datetime
import io
import os
import tempfile

from multiplexer.daemon.audit import MAX_LINE_BYTES, Log, format_event, is_journal

NOON = datetime.datetime(2025, 1, 2, 12, 0, 0, 500_000, tzinfo=datetime.UTC)


def written(*, journal: bool) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log("control", stream, journal=journal, clock=lambda: NOON), stream


def test_an_event_is_one_line_with_its_fields_in_order() -> None:
    text = format_event(
        "vif-created", {"name": "web", "owner": "alice", "mac": "52:54:00:00:00:01"}
    )

    assert text == "vif-created name=web owner=alice mac=52:54:00:00:00:01"


def test_a_field_that_is_none_is_left_out() -> None:
    assert (
        format_event("attached", {"name": "web", "why": None, "pid": 0})
        == "attached name=web pid=0"
    )


def test_a_value_cannot_end_the_line_nor_pass_for_another_field() -> None:
    text = format_event("refused", {"name": 'a" by=0\naudit: x', "tool": "\x1b[31mü", "empty": ""})

    assert text == r'refused name="a\" by=0\naudit: x" tool="\u001b[31m\u00fc" empty=""'


def test_no_line_is_so_long_that_the_journal_reads_its_tail_as_another() -> None:
    log, stream = written(journal=True)
    forged = "<1>multiplexerd[broker]: audit: vif-deleted"
    for character in ("x", "ü", "\U0001f600"):
        log.audit("refused", by="uid 1001", why=character * 49_000 + forged, name="web")
        log.error(character * 49_000 + forged)

    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert all(len(line.encode()) < MAX_LINE_BYTES + 100 for line in lines)
    assert not any(forged in line for line in lines)
    assert lines[0].endswith(" name=web")


def test_a_line_on_a_terminal_begins_with_the_time() -> None:
    log, stream = written(journal=False)

    log.audit("vif-created", name="web", by="uid 0")

    assert stream.getvalue() == (
        "2025-01-02T12:00:00.500+00:00 multiplexerd[control]: "
        'audit: vif-created name=web by="uid 0"\n'
    )


def test_a_line_to_the_journal_begins_with_its_priority() -> None:
    log, stream = written(journal=True)

    log.audit("attached", name="web")
    log.info("ready")
    log.warning("slow")
    log.error("first\nsecond")

    assert stream.getvalue().splitlines() == [
        "<5>multiplexerd[control]: audit: attached name=web",
        "<6>multiplexerd[control]: ready",
        "<4>multiplexerd[control]: slow",
        "<3>multiplexerd[control]: first",
        "<3>multiplexerd[control]: second",
    ]


def test_the_journal_is_known_by_device_and_inode() -> None:
    with tempfile.TemporaryFile("w") as stream:
        status = os.fstat(stream.fileno())
        here = f"{status.st_dev}:{status.st_ino}"

        assert is_journal(stream, {"JOURNAL_STREAM": here})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:1"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": here})
