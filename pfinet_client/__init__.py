"""Attach to the virtual interfaces of multiplexerd, from Python or by `pfinet`.

The names below are imported when they are first used: they bring trio, which
takes longer to import than `pfinet run` to start a stack without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pfinet_client.vif import Vif, VifRefused, open_vif

__all__ = ["Vif", "VifRefused", "open_vif"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pfinet_client import vif

    return getattr(vif, name)
