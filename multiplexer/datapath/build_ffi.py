"""Build ``multiplexer.datapath._dp``: the C datapath, as Python sees it.

Nothing is declared twice: what Python sees are the C headers themselves, run
through the preprocessor.  Standard headers are empty for that run, since cffi
knows their types.
"""

import re
import subprocess
import tempfile
from pathlib import Path

from cffi import FFI

HERE = Path("multiplexer/datapath")
HEADERS = [
    "core/frame.h",
    "core/offload.h",
    "core/index.h",
    "core/limit.h",
    "core/flow.h",
    "core/learn.h",
    "core/filter.h",
    "core/gate.h",
    "core/reject.h",
    "core/table.h",
    "core/claim.h",
    "core/ingress.h",
    "core/forward.h",
    "io/turn.h",
    "io/moderation.h",
    "io/backlog.h",
    "io/gates.h",
    "io/sightings.h",
    "io/loop.h",
    "io/packet.h",
    "io/sandbox.h",
]
INCLUDES = "".join(f'#include "{header}"\n' for header in HEADERS)


def declarations() -> str:
    """Return all that the headers declare, with every macro expanded."""
    with tempfile.TemporaryDirectory() as empty:
        for name in ("stdbool.h", "stddef.h", "stdint.h"):
            Path(empty, name).touch()
        return subprocess.run(
            ["gcc", "-E", "-P", "-nostdinc", "-DDP_CDEF", f"-I{empty}", f"-I{HERE}", "-"],
            input=INCLUDES,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout


def constants() -> str:
    """Return a declaration of each numeric macro; the compiler finds the values."""
    names = [
        name
        for header in HEADERS
        for name in re.findall(
            r"^#define (DP_\w+) [-(\w]", (HERE / header).read_text(), flags=re.MULTILINE
        )
    ]
    return "".join(f"#define {name} ...\n" for name in names)


ffibuilder = FFI()
ffibuilder.cdef(declarations() + constants())
ffibuilder.set_source(
    "multiplexer.datapath._dp",
    INCLUDES,
    sources=sorted(str(source) for part in ("core", "io") for source in (HERE / part).glob("*.c")),
    include_dirs=[str(HERE), "proto/include"],
    define_macros=[("_GNU_SOURCE", "1")],
    # Warnings are errors in `make lint`, on our own sources and not on what cffi generates.
    # A frame's way leads through a dozen small functions in as many files: compiled as one,
    # and hidden so that nobody can put another in the place of one, it takes a third less.
    extra_compile_args=["-std=c11", "-O3", "-flto", "-fvisibility=hidden"],
    extra_link_args=["-O3", "-flto"],
    libraries=["seccomp"],
)
