/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stations.h - A small table that every driver knows, and who is who in it
 */
#ifndef STATIONS_H
#define STATIONS_H

#include "forward.h"
#include "fuzz.h"

#define MTU 1500
#define UPLINK 0
#define FIRST_VIF 64
#define N_VIFS 6
/* Vifs of network 0, a switch with the uplink; the others are on network 1, a hub. */
#define N_SWITCHED 4

/* Network 0 has one that may claim, a router, one that may send any EtherType, and the host. */
static const uint8_t flags_of[N_VIFS] = {
	DP_VIF_FIRST_COME, DP_VIF_ROUTER | DP_VIF_DHCP_SERVER, DP_VIF_ANY_ETHERTYPE, DP_VIF_HOST,
	DP_VIF_FIRST_COME,
};
static const uint8_t lan4[3] = {10, 0, 1};
static const uint8_t lan6[8] = {0xfd};

static inline void put_le16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* Station @n: vifs are 0 to N_VIFS - 1, others live on the wire. */
static inline void put_mac(uint8_t *p, size_t n)
{
	const uint8_t mac[DP_MAC_LEN] = {0x52, 0x54, 0, 0, 0, (uint8_t)(n + 1)};

	memcpy(p, mac, sizeof(mac));
}

static inline void put_ipv4(uint8_t *p, size_t n)
{
	memcpy(p, lan4, sizeof(lan4));
	p[3] = (uint8_t)(n + 1);
}

static inline void put_ipv6(uint8_t *p, size_t n)
{
	memset(p, 0, 16);
	memcpy(p, lan6, sizeof(lan6));
	p[15] = (uint8_t)(n + 1);
}

/* ---- the table ---- */

/* A link-local address that may be claimed. */
static inline void put_stable(uint8_t *p, size_t which)
{
	static const uint8_t stable[15] = {0xfe, 0x80, [8] = 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x70};

	memcpy(p, stable, sizeof(stable));
	p[15] = (uint8_t)which;
}

static inline bool may_claim(size_t n)
{
	return n < N_VIFS && flags_of[n] & DP_VIF_FIRST_COME;
}

static inline void network_row(uint8_t row[DP_NETWORK_ROW_LEN], uint16_t id, uint8_t mode, bool uplink)
{
	memset(row, 0, DP_NETWORK_ROW_LEN);
	put_le16(row, id);
	row[2] = mode;
	row[3] = (uint8_t)(uplink | 0x06);
	put_le16(row + 4, uplink ? UPLINK : DP_NO_PORT);
	put_le16(row + 6, MTU);
	put_ipv4(row + 8, 0xff);
	row[12] = 24;
	memcpy(row + 13, lan6, sizeof(lan6));
	row[29] = 64;
}

/* The row of vif @n: one address of each family, and its network's number. */
static inline void vif_row(uint8_t row[DP_VIF_ROW_LEN], size_t n)
{
	uint8_t *ipv6 = row + 48 + DP_MAX_IPV4 * 5;

	memset(row, 0, DP_VIF_ROW_LEN);
	put_le16(row, n < N_SWITCHED ? 0 : 1);
	put_le16(row + 2, MTU);
	row[4] = flags_of[n];
	row[5] = 1;
	row[6] = 2;
	row[7] = 1;
	put_mac(row + 8, n);
	put_ipv4(row + 48, n);
	row[52] = 32;
	put_ipv6(ipv6, n);
	ipv6[16] = 128;
	ipv6[17] = 0xfe;
	ipv6[18] = 0x80;
	ipv6[17 + 15] = (uint8_t)(n + 1);
	ipv6[17 + 16] = 128;
	put_le16(ipv6 + DP_MAX_IPV6 * 17, 0x88b5);
	if (n == 3)
		put_le16(row + 32, 50); /* broadcasts a second */
}

static inline void make_networks(struct dp_table *table)
{
	uint8_t row[DP_NETWORK_ROW_LEN];

	REQUIRE(dp_table_set_uplink(table, UPLINK) == 0);
	network_row(row, 0, DP_MODE_SWITCH, true);
	REQUIRE(dp_table_set_network(table, row, DP_NETWORK_ROW_LEN) == 0);
	network_row(row, 1, DP_MODE_HUB, false);
	REQUIRE(dp_table_set_network(table, row, DP_NETWORK_ROW_LEN) == 0);
}

static inline struct dp_table *make_table(void)
{
	uint8_t row[DP_VIF_ROW_LEN];
	struct dp_table *table = calloc(1, dp_table_size());

	REQUIRE(table);
	dp_table_init(table, next_random());
	make_networks(table);
	for (uint16_t n = 0; n < N_VIFS; n++) {
		vif_row(row, n);
		REQUIRE(dp_table_set_vif(table, FIRST_VIF + n, row, DP_VIF_ROW_LEN) == 0);
		dp_table_set_up(table, FIRST_VIF + n, true);
	}
	dp_table_set_up(table, UPLINK, true);
	return table;
}

#endif
