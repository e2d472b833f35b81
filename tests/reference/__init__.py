"""The whole datapath's decision again, slow and plain, to compare the C core with."""

from .forward import Conflict, Decision, Reference, Route
from .packet import Csum, Frame, Gso, Meta
from .reasons import DELIVERY, FILTER, Reason
from .world import IPAddress, IPNetwork, Limits, Network, Vif, World

__all__ = [
    "DELIVERY",
    "FILTER",
    "Conflict",
    "Csum",
    "Decision",
    "Frame",
    "Gso",
    "IPAddress",
    "IPNetwork",
    "Limits",
    "Meta",
    "Network",
    "Reason",
    "Reference",
    "Route",
    "Vif",
    "World",
]
