"""The stock filters: building blocks that every installation has, and nobody changes.

They are XML files in this package, one filter in each, named as it is.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from ..policy.nwfilter.parse import parse_untrusted
from ..policy.nwfilter.syntax import Filter

_SUFFIX: Final = ".xml"


@cache
def stock_filters() -> Mapping[str, Filter]:
    """Return the stock filters by name, sorted."""
    texts = _texts()
    return MappingProxyType(
        {name: parse_untrusted(texts[name].encode(), f"{name}{_SUFFIX}") for name in sorted(texts)}
    )


def stock_text(name: str) -> str:
    """Return the file of the stock filter *name*, comments and all.

    Raises:
        KeyError: if there is no such stock filter.
    """
    return _texts()[name]


@cache
def _texts() -> Mapping[str, str]:
    found = [each for each in files(__package__).iterdir() if each.name.endswith(_SUFFIX)]
    return {each.name.removesuffix(_SUFFIX): each.read_text("utf-8") for each in found}
