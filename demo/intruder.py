"""Run by root of a stack: send whatever frame it is told to, and see whatever comes.

Standard input holds one frame a line, in hexadecimal; each is sent as it is.
Every frame that is received, in promiscuous mode, is written to standard
output in the same way.  Ends with its input.
"""

import os
import selectors
import socket
import struct
import sys

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_MR_PROMISC = 1
PACKET_OUTGOING = 4


def main() -> None:
    index, name = next(found for found in socket.if_nameindex() if found[1] != "lo")
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.setsockopt(
        SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8x", index, PACKET_MR_PROMISC, 0)
    )
    wire.bind((name, ETH_P_ALL))
    print("ready", flush=True)

    waiting = b""
    selector = selectors.DefaultSelector()
    selector.register(wire, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is wire:
                frame, address = wire.recvfrom(1 << 17)
                if address[2] != PACKET_OUTGOING:
                    print(frame.hex(), flush=True)
                continue
            piece = os.read(sys.stdin.fileno(), 1 << 16)
            if not piece:
                return
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                wire.send(bytes.fromhex(line.decode()))


if __name__ == "__main__":
    main()
