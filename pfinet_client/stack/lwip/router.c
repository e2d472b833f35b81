/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router.c - The IPv6 router that the vif's binding names
 *
 * lwIP has no call for this: it knows the routers that advertise themselves.  What
 * an advertisement would have written is written here, to last.  An entry of a
 * router is asked for until it answers; but where it once was, and nobody else, so
 * that one that came back with another link address, or whose address somebody
 * lied about, would never be found.  Hence it is watched.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include <lwip/nd6.h>
#include <lwip/priv/nd6_priv.h>
#include <lwip/timeouts.h>

/* The router that is wanted, zero for none, and what lwIP knows of it. */
static ip6_addr_t wanted;
static struct nd6_neighbor_cache_entry *router;

static struct nd6_router_list_entry *listed(void)
{
	for (int at = 0; router && at < LWIP_ND6_NUM_ROUTERS; at++) {
		if (default_router_list[at].neighbor_entry == router)
			return &default_router_list[at];
	}
	return NULL;
}

static void remove_router(void)
{
	if (listed()) {
		listed()->neighbor_entry = NULL;
		router->isrouter = 0;
	}
	router = NULL;
	nd6_clear_destination_cache();
}

void pl_router_forget(void)
{
	ip6_addr_set_zero(&wanted);
	remove_router();
}

static struct nd6_neighbor_cache_entry *neighbor(const ip6_addr_t *address)
{
	struct nd6_neighbor_cache_entry *entry, *unused = NULL;

	for (int at = 0; at < LWIP_ND6_NUM_NEIGHBORS; at++) {
		entry = &neighbor_cache[at];
		if (entry->state == ND6_NO_ENTRY)
			unused = entry;
		else if (ip6_addr_cmp(&entry->next_hop_address, address))
			return entry;
	}
	if (unused) {
		memset(unused, 0, sizeof(*unused));
		ip6_addr_copy(unused->next_hop_address, *address);
		unused->netif = pl_interface();
		unused->state = ND6_INCOMPLETE;
	}
	return unused;
}

static int add_router(void)
{
	for (int at = 0; at < LWIP_ND6_NUM_ROUTERS; at++) {
		if (default_router_list[at].neighbor_entry)
			continue;
		router = neighbor(&wanted);
		if (!router)
			break;
		router->isrouter = 1;
		default_router_list[at].neighbor_entry = router;
		default_router_list[at].invalidation_timer = UINT32_MAX;
		default_router_list[at].flags = 0;
		return 0;
	}
	return -ENOBUFS;
}

/* Each second. */
static void watch(void *arg)
{
	struct nd6_router_list_entry *entry = listed();

	if (entry)
		/* Its own advertisements do not end it: they may be of a router for nobody. */
		entry->invalidation_timer = UINT32_MAX;
	else if (!ip6_addr_isany(&wanted))
		add_router();
	if (entry && router->state == ND6_PROBE &&
	    router->counter.probes_sent >= LWIP_ND6_MAX_UNICAST_SOLICIT) {
		/* Another entry were dropped: this one is asked for by multicast again. */
		router->state = ND6_INCOMPLETE;
		router->counter.probes_sent = 0;
	}
	sys_timeout(ND6_TMR_INTERVAL, watch, arg);
}

int pl_set_router6(const uint8_t *address)
{
	static bool is_watched;
	int result = 0;

	pl_lock();
	pl_router_forget();
	if (!is_watched)
		sys_timeout(ND6_TMR_INTERVAL, watch, NULL);
	is_watched = true;
	if (address) {
		memcpy(wanted.addr, address, 16);
		ip6_addr_assign_zone(&wanted, IP6_UNKNOWN, pl_interface());
		result = add_router();
	}
	pl_unlock();
	return result;
}
