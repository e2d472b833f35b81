"""Describe the extension module `pfinet_client.stack.lwip._lwip` to cffi.

Where $PFINET_LWIP_SRC is set, lwIP is built into it from that source tree, with
the configuration in `port`; else it is linked with Debian's liblwip-dev.  Our
paths are relative to the root of the source tree, as setuptools wants them.
"""

import os
from pathlib import Path
from typing import Any

from cffi import FFI

ffibuilder = FFI()

_FOLDER = "pfinet_client/stack/lwip"
_GLUE = (
    *("glue", "address", "slots", "socket", "datagram", "tcp"),
    *("crowd", "neighbors", "patience", "path", "port", "router", "sieve"),
)
#: What the preprocessor would leave of the header, whose other lines are plain declarations.
_DROPPED = ("#", "/*", " *")
#: Its own headers do not all compile without a warning.
_FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra"]


def _declarations() -> str:
    header = Path(_FOLDER, "glue.h").read_text(encoding="utf-8")
    lines = [line for line in header.splitlines() if not line.startswith(_DROPPED)]
    return "\n".join(lines)


def _ours(*names: str) -> list[str]:
    return [f"{_FOLDER}/{name}.c" for name in names]


def _with_debians() -> dict[str, Any]:
    return {
        "sources": _ours(*_GLUE, "thread"),
        "include_dirs": [_FOLDER],
        "libraries": ["lwip"],
        "extra_compile_args": [*_FLAGS, "-isystem", "/usr/include/lwip"],
    }


def _with_source(tree: Path) -> dict[str, Any]:
    """Return how to build with the lwIP whose source is *tree*, the folder with `src` in it.

    Raises:
        SystemExit: if that is none.
    """
    # Absolute, for objects of what is outside would be put outside of `build`.
    tree = tree.resolve()
    core = tree / "src" / "core"
    if not (core / "init.c").is_file():
        raise SystemExit(f"PFINET_LWIP_SRC={tree}: no source of lwIP, it has no src/core/init.c")
    theirs = [
        *sorted(core.glob("*.c")),
        *sorted(core.glob("ipv4/*.c")),
        *sorted(core.glob("ipv6/*.c")),
        tree / "src" / "netif" / "ethernet.c",
    ]
    return {
        "sources": [
            *_ours(*_GLUE, "loop", "port/isn", "port/siphash"),
            *map(str, theirs),
        ],
        "include_dirs": [_FOLDER, f"{_FOLDER}/port"],
        "extra_compile_args": [*_FLAGS, "-isystem", str(tree / "src" / "include")],
    }


_source = os.environ.get("PFINET_LWIP_SRC")

ffibuilder.cdef(_declarations())
ffibuilder.set_source(
    "pfinet_client.stack.lwip._lwip",
    '#include "glue.h"',
    depends=sorted(str(each) for each in Path(_FOLDER).rglob("*.h")),
    define_macros=[("_GNU_SOURCE", "1")],
    **(_with_source(Path(_source)) if _source else _with_debians()),
)
