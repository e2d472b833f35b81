/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verdicts.h - What must hold of every frame that has passed, by rules of their own
 *
 * They are plain and stand here alone: no source that is not the sender's, no way
 * back to the sender, and no segment that is not the sender's either.
 */
#ifndef VERDICTS_H
#define VERDICTS_H

#include "ingress.h"
#include "offload.h"
#include "stations.h"

static inline bool is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* Whether the frame says that it comes from vif @n, wherever it says where it comes from. */
static inline bool is_from_vif(const uint8_t *data, size_t len, size_t n)
{
	uint8_t mac[DP_MAC_LEN], ipv4[4], ipv6[16], stable[16], local[16] = {0xfe, 0x80};

	put_mac(mac, n);
	put_ipv4(ipv4, n);
	put_ipv6(ipv6, n);
	put_stable(stable, 0);
	local[15] = (uint8_t)(n + 1);
	if (memcmp(data + 6, mac, sizeof(mac)) != 0)
		return false;
	switch (dp_get16(data + 12)) {
	case DP_ETHERTYPE_ARP:
		return len >= 42 && memcmp(data + 22, mac, sizeof(mac)) == 0 &&
		       (memcmp(data + 28, ipv4, 4) == 0 || is_zero(data + 28, 4));
	case DP_ETHERTYPE_IPV4:
		return len >= 34 && (memcmp(data + 26, ipv4, 4) == 0 || is_zero(data + 26, 4));
	case DP_ETHERTYPE_IPV6:
		return len >= 54 &&
		       (memcmp(data + 22, ipv6, 16) == 0 || memcmp(data + 22, local, 16) == 0 ||
			is_zero(data + 22, 16) ||
			(may_claim(n) && memcmp(data + 22, stable, 15) == 0));
	case 0x8100:
	case 0x88a8:
		return false;
	default:
		return true;
	}
}

/* Whether a frame from the wire says that it comes from vif @n. */
static inline bool claims_vif(const uint8_t *data, size_t len, size_t n)
{
	uint8_t mac[DP_MAC_LEN], ipv4[4], ipv6[16];

	put_mac(mac, n);
	put_ipv4(ipv4, n);
	put_ipv6(ipv6, n);
	if (memcmp(data + DP_MAC_LEN, mac, sizeof(mac)) == 0)
		return true;
	switch (dp_get16(data + 12)) {
	case DP_ETHERTYPE_ARP:
		return len >= 42 && memcmp(data + 28, ipv4, 4) == 0;
	case DP_ETHERTYPE_IPV4:
		return len >= 34 && memcmp(data + 26, ipv4, 4) == 0;
	case DP_ETHERTYPE_IPV6:
		return len >= 54 && memcmp(data + 22, ipv6, 16) == 0;
	default:
		return false;
	}
}

static inline void check_route(const struct dp_table *table, const struct dp_decision *decision,
			uint16_t from)
{
	uint16_t network = table->ports[from].network;

	bool from_host = table->ports[from].bind.flags & DP_VIF_HOST;

	REQUIRE(decision->route != DP_ROUTE_NONE);
	if (decision->route != DP_ROUTE_PORT) {
		REQUIRE(decision->network == network);
		REQUIRE(!from_host || decision->route == DP_ROUTE_MEMBERS);
		return;
	}
	REQUIRE(decision->port < DP_MAX_PORTS && decision->port != from);
	REQUIRE(table->ports[decision->port].network == network);
	REQUIRE(table->ports[decision->port].kind != DP_PORT_FREE);
	/* The host and the wire know each other by the NIC alone. */
	REQUIRE(!(from_host && decision->port == UPLINK));
	REQUIRE(!(from == UPLINK && table->ports[decision->port].bind.flags & DP_VIF_HOST));
}

/* Every frame that a passed one becomes for a receiver without offload is the sender's too. */
static inline void check_segments(const struct dp_frame *frame, size_t from)
{
	uint8_t hdr[DP_VNET_LEN];
	size_t longest = dp_offload_segment_len(frame);

	dp_offload_encode(hdr, frame);
	for (size_t n = dp_offload_segments(frame), i = 0; i < n; i++) {
		uint8_t *out = allocate(longest);
		size_t written = dp_offload_segment(frame, i, out);

		REQUIRE(written <= longest && written <= MTU + DP_ETH_LEN);
		REQUIRE(from >= N_VIFS || is_from_vif(out, written, from));
		free(out);
	}
}

/**
 * check_decision() - Check what was decided for a frame, and all that it becomes
 * @from:	The station that has sent it; N_VIFS or above: one on the wire
 */
static inline void check_decision(const struct dp_table *table, const struct dp_frame *frame,
				  const uint8_t *data, size_t len,
				  const struct dp_decision *decision, size_t from, uint16_t port)
{
	bool from_wire = port == UPLINK;

	REQUIRE(decision->verdict < DP_N_VERDICTS);
	REQUIRE(decision->conflict == DP_NO_PORT || decision->conflict < DP_MAX_PORTS);
	if (decision->verdict != DP_PASS) {
		REQUIRE(decision->route == DP_ROUTE_NONE);
		return;
	}
	check_route(table, decision, port);
	REQUIRE(from_wire || is_from_vif(data, len, from));
	REQUIRE(from_wire || dp_offload_fits(frame));
	for (size_t n = 0; from_wire && n < N_SWITCHED; n++)
		REQUIRE(!claims_vif(data, len, n));
	if (dp_offload_fits(frame) && dp_frame_fits_mtu(frame, MTU))
		check_segments(frame, from_wire ? N_VIFS : from);
}

#endif
