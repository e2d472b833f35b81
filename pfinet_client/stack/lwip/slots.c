/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots.c - Where the interface keeps its IPv6 addresses
 *
 * The first slot is the link-local address's and the last one ::1's.  Of those between,
 * the binding's addresses have as many as they need; lwIP puts in the others what it
 * makes of advertised prefixes.  An address that stays must stay in its slot: lwIP ends
 * the connections of whatever a slot loses.
 */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static_assert(PL_MAX_IPV6 == LWIP_IPV6_NUM_ADDRESSES - 2, "link-local and loopback come with them");

#define LINK_LOCAL 0
#define FIRST 1
#define LOOPBACK (PL_MAX_IPV6 + 1)

static void let_be(struct netif *netif, s8_t at)
{
	netif_ip6_addr_set_valid_life(netif, at, IP6_ADDR_LIFE_STATIC);
	/* The daemon lets nobody else use it, so nobody is asked. */
	netif_ip6_addr_set_state(netif, at, IP6_ADDR_PREFERRED);
}

void pl_slots_begin(struct netif *netif)
{
	ip6_addr_t loopback;

	netif_create_ip6_linklocal_address(netif, 1);
	let_be(netif, LINK_LOCAL);
	/* Last, so that it is nobody's source but its own. */
	ip6_addr_set_loopback(&loopback);
	netif_ip6_addr_set(netif, LOOPBACK, &loopback);
	let_be(netif, LOOPBACK);
}

void pl_slots_face(struct netif *netif, bool outside)
{
	/* Without a word to anybody, as it is for as long as the lock is held. */
	netif->ip6_addr_state[LOOPBACK] = outside ? IP6_ADDR_INVALID : IP6_ADDR_PREFERRED;
}

bool pl_slots_own(struct netif *netif, const ip6_addr_t *address)
{
	s8_t at = netif_get_ip6_addr_match(netif, address);

	return at >= 0 && ip6_addr_isvalid(netif_ip6_addr_state(netif, at));
}

static void take(ip6_addr_t *to, const uint8_t *from)
{
	memcpy(to->addr, from, 16);
	ip6_addr_clear_zone(to);
}

static bool is_wanted(const ip6_addr_t *address, const uint8_t *addresses, size_t n)
{
	for (size_t at = 0; at < n; at++) {
		if (!memcmp(address->addr, addresses + 16 * at, 16))
			return true;
	}
	return false;
}

/* There is one, as fewer than all are of the binding: a free one, or of lwIP's. */
static s8_t room(struct netif *netif)
{
	s8_t found = FIRST;

	for (s8_t at = FIRST; at < LOOPBACK; at++) {
		if (ip6_addr_isinvalid(netif_ip6_addr_state(netif, at)))
			return at;
		if (!netif_ip6_addr_isstatic(netif, at))
			found = at;
	}
	return found;
}

int pl_set_ipv6(const uint8_t *addresses, size_t n, bool autoconf)
{
	struct netif *netif;

	if (n > PL_MAX_IPV6)
		return -E2BIG;
	pl_lock();
	netif = pl_interface();
	for (s8_t at = FIRST; netif && at < LOOPBACK; at++) {
		bool is_theirs = netif_ip6_addr_isstatic(netif, at) || !autoconf;

		if (!ip6_addr_isinvalid(netif_ip6_addr_state(netif, at)) && is_theirs &&
		    !is_wanted(netif_ip6_addr(netif, at), addresses, n))
			netif_ip6_addr_set_state(netif, at, IP6_ADDR_INVALID);
	}
	for (size_t each = 0; netif && each < n; each++) {
		ip6_addr_t ip;
		s8_t at;

		take(&ip, addresses + 16 * each);
		at = netif_get_ip6_addr_match(netif, &ip);
		if (at < 0) {
			at = room(netif);
			netif_ip6_addr_set(netif, at, &ip);
		}
		let_be(netif, at);
	}
	if (netif)
		netif->ip6_autoconfig_enabled = autoconf;
	pl_unlock();
	return netif ? 0 : -ENETDOWN;
}
