/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - What lwIP believes of the paths to its peers
 *
 * Each has an MTU, which who says that a packet was too big may lower, but not below what
 * every link of IPv6 carries, nor raise (RFC 8201, section 4).  lwIP takes any number, and
 * where a piece had no room for a byte it would cut a packet into such for ever.
 */
#include "internal.h"

#include <lwip/nd6.h>
#include <lwip/priv/nd6_priv.h>

/* RFC 8200, section 5. */
#define LEAST_MTU 1280

void pl_path_heed(void)
{
	for (int at = 0; at < LWIP_ND6_NUM_DESTINATIONS; at++) {
		u16_t *mtu = &destination_cache[at].pmtu;

		if (*mtu && *mtu < LEAST_MTU)
			*mtu = LEAST_MTU;
		if (*mtu > pl_interface()->mtu)
			*mtu = pl_interface()->mtu;
	}
}
