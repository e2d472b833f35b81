"""The C extensions; everything else stands in pyproject.toml.

That of lwIP is built where $PFINET_LWIP_SRC is set, out of the source tree of lwIP that
it names; or where $PFINET_LWIP is, for that needs liblwip-dev, and what is built against it
is under the GPL, version 3.
"""

import os

from setuptools import setup

MODULES = [
    "multiplexer/datapath/build_ffi.py:ffibuilder",
    "pfinet_client/pump/build_ffi.py:ffibuilder",
]
if os.environ.get("PFINET_LWIP") or os.environ.get("PFINET_LWIP_SRC"):
    MODULES.append("pfinet_client/stack/lwip/build_ffi.py:ffibuilder")

setup(cffi_modules=MODULES)
