"""The two C extensions; everything else stands in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=[
        "multiplexer/datapath/build_ffi.py:ffibuilder",
        "pfinet_client/pump/build_ffi.py:ffibuilder",
    ]
)
