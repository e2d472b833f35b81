"""Describe the extension module `pfinet_client.stack.lwip._lwip` to cffi.

It is built where $PFINET_LWIP is set, against Debian's liblwip-dev.  Paths are
relative to the root of the source tree, as setuptools wants them.
"""

from pathlib import Path

from cffi import FFI

ffibuilder = FFI()

_FOLDER = "pfinet_client/stack/lwip"
#: What the preprocessor would leave of the header, whose other lines are plain declarations.
_DROPPED = ("#", "/*", " *")


def _declarations() -> str:
    header = Path(_FOLDER, "glue.h").read_text(encoding="utf-8")
    lines = [line for line in header.splitlines() if not line.startswith(_DROPPED)]
    return "\n".join(lines)


ffibuilder.cdef(_declarations())
ffibuilder.set_source(
    "pfinet_client.stack.lwip._lwip",
    '#include "glue.h"',
    sources=[f"{_FOLDER}/{name}.c" for name in ("glue", "address", "socket", "datagram", "tcp")],
    include_dirs=[_FOLDER],
    depends=[f"{_FOLDER}/glue.h", f"{_FOLDER}/internal.h"],
    libraries=["lwip"],
    define_macros=[("_GNU_SOURCE", "1")],
    # Its own headers do not all compile without a warning.
    extra_compile_args=["-std=c11", "-O2", "-Wall", "-Wextra", "-isystem", "/usr/include/lwip"],
)
