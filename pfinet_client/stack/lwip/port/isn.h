/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PFINET_LWIP_ISN_H
#define PFINET_LWIP_ISN_H

#include <lwip/ip_addr.h>

/** pl_isn_begin() - Draw the key; return 0 or a negative errno */
int pl_isn_begin(void);

/**
 * pl_isn() - Return the initial sequence number of a connection (RFC 6528)
 *
 * It rises with a clock, so that a new connection with the addresses and ports of an
 * old one begins after it, from where a keyed hash of those addresses and ports says.
 */
u32_t pl_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote,
	     u16_t remote_port);

/** pl_random() - Return a number by chance, for ports and identifiers: a hash of how many there were */
uint32_t pl_random(void);

#endif
