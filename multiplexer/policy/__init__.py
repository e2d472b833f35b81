"""Compilers of the model to the rows of the datapath's tables."""

from .forwarding import NetworkRow, compile_network, decode_network, memberships
from .ingress import VifRow, compile_host, compile_vif, decode_vif
from .transition import Staying, VifStep, network_rows, vif_steps

__all__ = [
    "NetworkRow",
    "Staying",
    "VifRow",
    "VifStep",
    "compile_host",
    "compile_network",
    "compile_vif",
    "decode_network",
    "decode_vif",
    "memberships",
    "network_rows",
    "vif_steps",
]
