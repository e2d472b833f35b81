"""Ask a host whether it is there, from a stack of one's own: ping.py [--vif NAME] HOST."""

import argparse
import socket
import sys

import trio

from pfinet_client.stack import StackError, open_stack

# RFC 792 and RFC 4443; the kernel fills in checksum and identifier of such sockets (icmp(7)).
ECHO = {
    socket.AF_INET: (socket.IPPROTO_ICMP, bytes([8, 0, 0, 0, 0, 0, 0, 1])),
    socket.AF_INET6: (socket.IPPROTO_ICMPV6, bytes([128, 0, 0, 0, 0, 0, 0, 1])),
}
TIMEOUT_S = 5


async def ping(host: str) -> str:
    """Return the address from which *host* has answered."""
    ((family, _, _, _, address), *_) = await trio.socket.getaddrinfo(host, 0, type=1)
    protocol, request = ECHO[family]
    with trio.socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        await sock.connect(address)
        await sock.send(request)
        await sock.recv(100)
    return str(address[0])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vif", help="default: your only one")
    parser.add_argument("host")
    arguments = parser.parse_args()
    try:
        async with open_stack(arguments.vif) as stack:
            stack.install()
            with trio.fail_after(TIMEOUT_S):
                print(f"{await ping(arguments.host)} is there")
    except trio.TooSlowError:
        sys.exit(f"{arguments.host} does not answer within {TIMEOUT_S} s")
    except (StackError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    trio.run(main)
