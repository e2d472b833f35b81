"""The words of multiplexer.toml."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Every key there is, by the kind of table that it stands in; "" is the file itself.
KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "": ("daemon", "uplink", "network", "vif", "grant"),
        "daemon": (
            "run_dir",
            "state_dir",
            "control_user",
            "engine_user",
            "admins",
            "owner_uids",
            "queue_mib_per_user",
            "cpu",
        ),
        "uplink": ("kind", "interface", "external"),
        "network": (
            "mode",
            "uplink",
            "prefixes",
            "gateways",
            "mtu",
            "dns",
            "search",
            "reserved",
            "autoconf",
            "link-local",
            "host",
            "limits",
            "filter",
            "parameters",
        ),
        "vif": (
            "owner",
            "network",
            "addresses",
            "prefixes",
            "mac",
            "limits",
            "roles",
            "ethertypes",
            "link-local",
            "trusted_tap",
            "filter",
            "parameters",
        ),
        "grant": (
            "to",
            "network",
            "addresses",
            "prefixes",
            "addresses_per_vif",
            "vifs",
            "limits",
            "filter",
            "parameters",
        ),
        "limits": ("frames_per_s", "bytes_per_s", "broadcast_per_s", "copies_per_s"),
    }
)
