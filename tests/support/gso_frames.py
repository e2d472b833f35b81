"""TCP and UDP frames as a stack hands them over, and as a receiver must see them.

Written for being read, not for speed: checksums are summed word by word, and a
segment is nothing but the same frame with a part of the payload, built afresh.
"""

from collections.abc import Iterator

from attrs import evolve, field, frozen

ETHERNET_LEN = 14
FIN, PSH, ACK, URG, ECE, CWR = 0x01, 0x08, 0x10, 0x20, 0x40, 0x80
HOP_BY_HOP, TCP, UDP, ROUTING, DESTINATION_OPTIONS = 0, 6, 17, 43, 60

TIMESTAMPS = bytes.fromhex("0101080a0102030405060708")
"""Two NOPs and a timestamp option (RFC 7323, section 3.2)."""

PAD_6 = bytes((1, 4, 0, 0, 0, 0))
"""A PadN option that fills an options header of 8 bytes (RFC 8200, section 4.2)."""


def ones_sum(data: bytes) -> int:
    """Return the folded ones' complement sum of *data*, big-endian words (RFC 1071)."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


@frozen(kw_only=True)
class Frame:
    """An Ethernet frame with one IP packet that carries TCP, or UDP.

    *extensions* are IPv6 extension headers, (type, all bytes but the first);
    *pseudo_error* is added to the pseudo-header's sum that an unfinished frame
    holds, as a sender with a mistake would; *padding* stands behind the packet.
    """

    version: int = 4
    protocol: int = TCP
    payload: bytes
    flags: int = ACK
    reserved: int = 0
    seq: int = 0x01020304
    ident: int = 0x1234
    fragment: int = 0x4000
    tos: int = 0
    ip_options: bytes = b""
    tcp_options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()
    pseudo_error: int = 0
    padding: bytes = b""
    urgent: int = 0
    sport: int = 40000
    macs: bytes = field(default=bytes.fromhex("525400000002525400000001"), repr=False)

    @property
    def l4_off(self) -> int:
        """Offset of the transport header in the frame."""
        if self.version == 4:
            return ETHERNET_LEN + 20 + len(self.ip_options)
        return ETHERNET_LEN + 40 + sum(1 + len(rest) for _, rest in self.extensions)

    @property
    def payload_off(self) -> int:
        """Offset of the payload in the frame, the length of all headers."""
        return self.l4_off + (20 + len(self.tcp_options) if self.protocol == TCP else 8)

    @property
    def csum_offset(self) -> int:
        """Offset of the checksum in the transport header."""
        return 16 if self.protocol == TCP else 6

    def unfinished(self) -> bytes:
        """Return the frame with the pseudo-header's sum in the checksum's place."""
        transport = self._transport(self._unfinished_sum())
        return self._network(len(transport)) + transport + self.padding

    def finished(self) -> bytes:
        """Return the frame with its transport checksum."""
        unfinished = self._transport(self._unfinished_sum())
        checksum = ones_sum(unfinished) ^ 0xFFFF
        if self.protocol == UDP and checksum == 0:
            checksum = 0xFFFF
        return self._network(len(unfinished)) + self._transport(checksum) + self.padding

    def segments(self, gso_size: int) -> Iterator[bytes]:
        """Yield what a receiver without segmentation offload must see."""
        starts = range(0, len(self.payload), gso_size)
        for index, at in enumerate(starts):
            flags = self.flags
            if at > 0:
                flags &= ~CWR
            if index < len(starts) - 1:
                flags &= ~(FIN | PSH)
            yield evolve(
                self,
                payload=self.payload[at : at + gso_size],
                seq=(self.seq + at) & 0xFFFFFFFF,
                ident=(self.ident + index) & 0xFFFF,
                flags=flags,
                padding=b"",
            ).finished()

    def _addresses(self) -> bytes:
        if self.version == 4:
            return bytes((10, 0, 1, 1, 10, 0, 1, 2))
        return bytes.fromhex("fd000000000000000000000000000001fd000000000000000000000000000002")

    def _unfinished_sum(self) -> int:
        length = len(self._transport(0))
        pseudo = self._addresses() + length.to_bytes(4, "big") + bytes((0, 0, 0, self.protocol))
        return ones_sum(ones_sum(pseudo).to_bytes(2, "big") + self.pseudo_error.to_bytes(2, "big"))

    def _transport(self, checksum: int) -> bytes:
        ports = self.sport.to_bytes(2, "big") + (5001).to_bytes(2, "big")
        if self.protocol == UDP:
            length = 8 + len(self.payload)
            return ports + length.to_bytes(2, "big") + checksum.to_bytes(2, "big") + self.payload
        words = 5 + len(self.tcp_options) // 4
        return (
            ports
            + self.seq.to_bytes(4, "big")
            + bytes.fromhex("0a0b0c0d")
            + bytes((words << 4 | self.reserved, self.flags))
            + bytes.fromhex("ffff")
            + checksum.to_bytes(2, "big")
            + self.urgent.to_bytes(2, "big")
            + self.tcp_options
            + self.payload
        )

    def _network(self, transport_len: int) -> bytes:
        if self.version == 4:
            return self.macs + b"\x08\x00" + self._ipv4(transport_len)
        return self.macs + b"\x86\xdd" + self._ipv6(transport_len)

    def _ipv4(self, transport_len: int) -> bytes:
        header_len = 20 + len(self.ip_options)
        header = (
            bytes((0x40 | header_len // 4, self.tos))
            + (header_len + transport_len).to_bytes(2, "big")
            + self.ident.to_bytes(2, "big")
            + self.fragment.to_bytes(2, "big")
            + bytes((64, self.protocol, 0, 0))
            + self._addresses()
            + self.ip_options
        )
        checksum = ones_sum(header) ^ 0xFFFF
        return header[:10] + checksum.to_bytes(2, "big") + header[12:]

    def _ipv6(self, transport_len: int) -> bytes:
        types = [kind for kind, _ in self.extensions] + [self.protocol]
        chain = b"".join(
            bytes((following,)) + rest
            for following, (_, rest) in zip(types[1:], self.extensions, strict=True)
        )
        return (
            (6 << 28 | self.tos << 20 | 0x54321).to_bytes(4, "big")
            + (len(chain) + transport_len).to_bytes(2, "big")
            + bytes((types[0], 64))
            + self._addresses()
            + chain
        )
