"""Everything on one processor: what waking somebody costs there is little.

All processes that this one started, and what they start meanwhile, are kept
there, so no part of a system has a processor that another lacks.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.lab import children

from ..lineup import Lineup
from ..report import Sample


def on_one_core(
    measure: Callable[[Lineup, str], Iterator[Sample]], lineup: Lineup, work: str
) -> Iterator[Sample]:
    """Yield what *measure* finds there."""
    with all_on(max(os.sched_getaffinity(0))):
        yield from measure(lineup, work)


@contextmanager
def all_on(processor: int) -> Iterator[None]:
    """Keep this process and all that descend from it on *processor* for a while."""
    before = {thread: os.sched_getaffinity(thread) for thread in threads_from(os.getpid())}
    for thread in before:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {processor})
    try:
        yield
    finally:
        for thread, processors in before.items():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, processors)


def threads_from(pid: int) -> Iterator[int]:
    """Yield the threads of *pid* and of its descendants."""
    with suppress(FileNotFoundError):  # it has ended
        yield from (int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
        for child in children(pid):
            yield from threads_from(child)
