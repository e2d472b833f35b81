/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sieve.c - Frames that lwIP must not see, and those that nobody else must
 *
 * Loopback addresses are this program's alone, but lwIP takes them from any interface.
 *
 * Of UDP-Lite (RFC 3828) a frame says itself how much its checksum covers, and lwIP of
 * Debian aborts the program where that is more than there is.  Nothing here has sockets
 * of it.  It may stand behind extension headers; those of a packet in pieces have to
 * stand in the first (RFC 7112), and nobody sends more than that of the pieces itself.
 *
 * The daemon drops what comes from an address that is not the vif's, and counts it as
 * forged.  lwIP sends such: from 127.0.0.1 or ::1 where a socket is bound to that, and
 * from the group that pieces were sent to, when it is told that the rest never came.
 */
#include "internal.h"

#include <string.h>

#define ETH_LEN 14
#define IPV4_LEN 20
#define IPV6_LEN 40

#define HOP_BY_HOP 0
#define ROUTING 43
#define FRAGMENT 44
#define DESTINATION 60
#define UDPLITE 136

static bool is_ipv4(const uint8_t *frame, size_t len)
{
	return len >= ETH_LEN + IPV4_LEN && frame[12] == 0x08 && frame[13] == 0x00;
}

static bool is_ipv6(const uint8_t *frame, size_t len)
{
	return len >= ETH_LEN + IPV6_LEN && frame[12] == 0x86 && frame[13] == 0xdd;
}

static bool has_options(uint8_t header)
{
	return header == HOP_BY_HOP || header == ROUTING || header == DESTINATION;
}

/* Whether behind IPv6 headers stands UDP-Lite, or what could hide it. */
static bool may_be_udplite(const uint8_t *frame, size_t len)
{
	size_t at = ETH_LEN + IPV6_LEN;
	uint8_t header = frame[ETH_LEN + 6];

	while (has_options(header)) {
		if (len - at < 8)
			return true;
		header = frame[at];
		at += (frame[at + 1] + (size_t)1) * 8;
		if (at > len)
			return true;
	}
	if (header != FRAGMENT)
		return header == UDPLITE;
	return len - at < 8 || frame[at] == UDPLITE || has_options(frame[at]) ||
	       frame[at] == FRAGMENT;
}

bool pl_may_send(struct netif *netif, const uint8_t *frame, size_t len)
{
	ip6_addr_t from6;
	ip4_addr_t from4;

	if (is_ipv4(frame, len)) {
		memcpy(&from4.addr, frame + 26, 4);
		return !ip4_addr_isany_val(from4) && ip4_addr_cmp(&from4, netif_ip4_addr(netif));
	}
	if (is_ipv6(frame, len)) {
		memcpy(from6.addr, frame + 22, 16);
		ip6_addr_clear_zone(&from6);
		ip6_addr_assign_zone(&from6, IP6_UNICAST, netif);
		return ip6_addr_isany_val(from6) ||
		       (!ip6_addr_isloopback(&from6) && pl_slots_own(netif, &from6));
	}
	return true;
}

bool pl_may_see(const uint8_t *frame, size_t len)
{
	static const uint8_t one[16] = {[15] = 1};

	if (is_ipv4(frame, len))
		return frame[26] != 127 && frame[30] != 127 && frame[23] != UDPLITE;
	if (is_ipv6(frame, len))
		return memcmp(frame + 22, one, 16) != 0 && memcmp(frame + 38, one, 16) != 0 &&
		       !may_be_udplite(frame, len);
	return true;
}
