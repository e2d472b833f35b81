"""Compilers of the model to the rows of the datapath's tables."""

from .forwarding import NetworkRow, compile_network, decode_network, memberships
from .ingress import VifRow, compile_host, compile_vif, decode_vif

__all__ = [
    "NetworkRow",
    "VifRow",
    "compile_host",
    "compile_network",
    "compile_vif",
    "decode_network",
    "decode_vif",
    "memberships",
]
