"""The engine's counters as the people who read them know them.

The engine counts by number: one row for each port, with frames and bytes from
the port's stack or wire, frames and bytes to it, and then the frames that
ended in each verdict, in the order of the verdicts' numbers.  Number 0 is
"pass", every other one a drop reason of ``core/reasons.h``.
"""

from collections.abc import Sequence
from types import MappingProxyType

from pfinet_proto.control import Counters

PASS = 0


def read_row(row: Sequence[int], verdicts: Sequence[str]) -> Counters:
    """Return what *row* counts, with the drops by reason, without those that never occurred.

    Raises:
        ValueError: if it does not have one number for each of *verdicts*.
    """
    rx_frames, rx_bytes, tx_frames, tx_bytes, *by_verdict = row
    if len(by_verdict) != len(verdicts):
        raise ValueError(f"row has {len(by_verdict)} verdicts, wanted {len(verdicts)}")
    drops = {
        name: count
        for number, (name, count) in enumerate(zip(verdicts, by_verdict, strict=True))
        if number != PASS and count
    }
    return Counters(rx_frames, rx_bytes, tx_frames, tx_bytes, MappingProxyType(drops))
