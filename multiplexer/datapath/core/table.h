/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - Who is bound to what, and where
 *
 * The policy compilers hand over rows; the table checks every number in them
 * before it keeps one, and indexes what is bound.  A MAC or an address is found
 * by one hash look-up per prefix length in use.  Nothing is learned from a frame,
 * so nothing that a frame says can change who receives; but for the few link-local
 * addresses of claim.h, which nobody else has.
 *
 * Memory is taken once, by dp_table_init() from its caller; no look-up and no
 * change allocates.
 */
#ifndef DP_TABLE_H
#define DP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"
#include "index.h"
#include "limit.h"

#define DP_MAX_NETWORKS 256
#define DP_MAX_PORTS 4096
#define DP_MAX_IPV4 16
#define DP_MAX_IPV6 32
#define DP_MAX_ETHERTYPES 8
#define DP_MAX_CLAIMS 4

#define DP_NETWORK_ROW_LEN 40
#define DP_VIF_ROW_LEN 688

/* Flags of a vif row. */
#define DP_VIF_ROUTER 0x01
#define DP_VIF_DHCP_SERVER 0x02
#define DP_VIF_ANY_ETHERTYPE 0x04
/*
 * The host's own port.  It has its NIC for the wire, so nothing goes from one to the other,
 * nor by its routing: packets to it are for what it is bound to.
 */
#define DP_VIF_HOST 0x08
#define DP_VIF_FIRST_COME 0x10 /* may claim link-local addresses: claim.h */

enum dp_mode { DP_MODE_SWITCH = 0, DP_MODE_HUB = 1, DP_N_MODES };

enum dp_port_kind { DP_PORT_FREE = 0, DP_PORT_VIF, DP_PORT_UPLINK };

struct dp_prefix {
	uint8_t addr[16]; /* IPv4: the first four; host bits are zero */
	uint8_t len;      /* bits */
};

/* An address that a vif has claimed by itself: claim.h. */
struct dp_claim {
	struct dp_prefix prefix;
	uint64_t since_ns;
};

/* What a vif may call its own. */
struct dp_binding {
	uint8_t mac[DP_MAC_LEN];
	uint8_t flags;
	uint8_t n_ipv4, n_ipv6, n_ethertypes;
	uint8_t n_claims, n_firm; /* the first @n_firm claims count as bound */
	struct dp_prefix ipv4[DP_MAX_IPV4];
	struct dp_prefix ipv6[DP_MAX_IPV6];
	uint16_t ethertypes[DP_MAX_ETHERTYPES];
	struct dp_claim claims[DP_MAX_CLAIMS];
};

/* rx: from the port's stack or wire; tx: to it.  One drop count per verdict. */
struct dp_counters {
	uint64_t rx_frames, rx_bytes;
	uint64_t tx_frames, tx_bytes;
	uint64_t drops[DP_N_VERDICTS];
};

/* A stranger on the wire who claims an address that is bound here. */
struct dp_conflict {
	uint8_t mac[DP_MAC_LEN]; /* the stranger's, of the last such frame */
	uint8_t family;          /* 4 or 6; 0: there was none */
	uint8_t addr[16];
	uint64_t count;
};

/* Where a port's last frame went: the next one mostly goes there too. */
struct dp_hint {
	uint64_t changes; /* of the index when it was looked up */
	uint8_t mac[DP_MAC_LEN];
	uint16_t holder; /* what dp_table_find_mac() said */
};

struct dp_gate;

struct dp_port {
	uint8_t kind;     /* enum dp_port_kind */
	bool up;          /* attached, or the link is there: frames may go to it */
	uint16_t network; /* id; of an uplink: the bridged network, or DP_NO_PORT */
	uint16_t next;    /* next member of the network, or DP_NO_PORT */
	struct dp_binding bind;
	struct dp_hint hint;
	struct dp_bucket frames, bytes, broadcasts, copies;
	struct dp_counters count;
	struct dp_conflict conflict;
	struct dp_gate *gate; /* of its filter; NULL: there is none.  Whose memory it is: io/gates.h */
};

struct dp_network {
	bool used;
	uint8_t mode;    /* enum dp_mode */
	uint16_t uplink; /* port, or DP_NO_PORT */
	uint16_t mtu;    /* bytes of the IP packet */
	uint16_t first;  /* first member vif, or DP_NO_PORT */
	uint32_t n_up;   /* member vifs that are up */
};

struct dp_table {
	struct dp_index index;
	struct dp_network networks[DP_MAX_NETWORKS];
	struct dp_port ports[DP_MAX_PORTS];
};

/** dp_table_size() - Bytes that a table takes */
size_t dp_table_size(void);

/**
 * dp_table_init() - Make an empty table
 * @table:	dp_table_size() bytes, all zero
 * @seed:	Of the hash; random, so that nobody can aim at a slot
 */
void dp_table_init(struct dp_table *table, uint64_t seed);

/**
 * dp_table_set_network() - Make or change a network
 * @table:	Table
 * @row:	Its row, packed by multiplexer.policy.forwarding, little-endian
 * @len:	Bytes at @row, DP_NETWORK_ROW_LEN
 *
 * Return: 0, or -EINVAL where the row does not fit, -EEXIST where its uplink
 * serves another network already
 */
int dp_table_set_network(struct dp_table *table, const uint8_t *row, size_t len);

/**
 * dp_table_clear_network() - Forget a network
 * Return: 0, or -EINVAL where @id is none, -EBUSY where vifs are in it
 */
int dp_table_clear_network(struct dp_table *table, uint16_t id);

/**
 * dp_table_set_vif() - Make a vif, or change its binding and limits
 * @table:	Table
 * @port:	Its port
 * @row:	Its row, packed by multiplexer.policy.ingress, little-endian
 * @len:	Bytes at @row, DP_VIF_ROW_LEN
 *
 * Counters and the port's state stay as they are, and so do a conflict over what
 * is still bound, and its claims, unless it may have none any more or changes its
 * network.  On failure nothing changes.
 *
 * Return: 0, or -EINVAL where the row does not fit, -EEXIST where another vif
 * holds its MAC or one of its prefixes, -ENOSPC where the index is full
 */
int dp_table_set_vif(struct dp_table *table, uint16_t port, const uint8_t *row, size_t len);

/**
 * dp_table_set_uplink() - Make an uplink's port
 * Return: 0, or -EINVAL where @port is out of range or a vif's
 */
int dp_table_set_uplink(struct dp_table *table, uint16_t port);

/**
 * dp_table_clear_uplink() - Forget an uplink and its counters; its network goes on without
 * Return: 0, or -EINVAL where @port is no uplink
 */
int dp_table_clear_uplink(struct dp_table *table, uint16_t port);

/**
 * dp_table_clear() - Forget a vif, its binding and its counters
 * Return: 0, or -EINVAL where @port is no vif
 */
int dp_table_clear(struct dp_table *table, uint16_t port);

/**
 * dp_table_set_up() - Say whether frames may go to a port; out of range is ignored
 *
 * A vif that goes down loses its claims.
 */
void dp_table_set_up(struct dp_table *table, uint16_t port, bool up);

/** dp_table_find_mac() - The vif of @network that is bound to @mac, or DP_NO_PORT */
uint16_t dp_table_find_mac(const struct dp_table *table, uint16_t network, const uint8_t *mac);

/**
 * dp_table_find_mac_for() - As dp_table_find_mac(), in the network of a port
 * @port:	Who asks; its hint is used, and set
 */
uint16_t dp_table_find_mac_for(const struct dp_table *table, struct dp_port *port,
			       const uint8_t *mac);

/** dp_table_find_ipv4() - The vif of @network that is bound to 4 bytes of address, or DP_NO_PORT */
uint16_t dp_table_find_ipv4(const struct dp_table *table, uint16_t network, const uint8_t *addr);

/** dp_table_find_ipv6() - The vif of @network that is bound to 16 bytes of address, or DP_NO_PORT */
uint16_t dp_table_find_ipv6(const struct dp_table *table, uint16_t network, const uint8_t *addr);

/** dp_binding_find_ipv4() - The bound prefix that 4 bytes of address lie in, or NULL */
const struct dp_prefix *dp_binding_find_ipv4(const struct dp_binding *bind, const uint8_t *addr);

/** dp_binding_find_ipv6() - The bound prefix that 16 bytes of address lie in, or NULL */
const struct dp_prefix *dp_binding_find_ipv6(const struct dp_binding *bind, const uint8_t *addr);

/** dp_binding_has_ipv4() - Whether 4 bytes of address lie in a bound prefix */
bool dp_binding_has_ipv4(const struct dp_binding *bind, const uint8_t *addr);

/** dp_binding_has_ipv6() - Whether 16 bytes of address lie in a bound prefix */
bool dp_binding_has_ipv6(const struct dp_binding *bind, const uint8_t *addr);

#endif
