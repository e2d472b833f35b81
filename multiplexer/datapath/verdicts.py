"""What C calls its verdicts, and what they mean: the names of all counters of drops."""

from multiplexer.datapath._dp import ffi, lib

#: The public names of the verdicts, by number; 0 is "pass".
VERDICTS: tuple[str, ...] = tuple(
    ffi.string(lib.dp_verdict_name(i)).decode() for i in range(lib.DP_N_VERDICTS)
)

#: What each verdict says of its frame.
MEANINGS: tuple[str, ...] = tuple(
    ffi.string(lib.dp_verdict_meaning(i)).decode() for i in range(lib.DP_N_VERDICTS)
)
