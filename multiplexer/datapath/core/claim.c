/* SPDX-License-Identifier: Apache-2.0 */
#include "claim.h"

#include <string.h>

#include "ingress.h"

/* A neighbour solicitation directly behind the IPv6 header: receivers may skip others. */
#define ND_OFF (DP_ETH_LEN + 40)
#define ND_LEN 24

static const uint8_t unspecified[16];

static struct dp_key claim_key(const struct dp_port *p, uint16_t port, const uint8_t *addr)
{
	struct dp_key key = { .kind = DP_KEY_IPV6, .len = 128, .network = p->network, .port = port };

	memcpy(key.addr, addr, 16);
	return key;
}

/* fe80::/64 (RFC 4291, section 2.5.6), with an identifier as only RFC 7217 or 8981 makes it. */
static bool is_claimable(const uint8_t *addr)
{
	static const uint8_t prefix[8] = { 0xfe, 0x80 };

	return memcmp(addr, prefix, 8) == 0 && !(addr[11] == 0xff && addr[12] == 0xfe) &&
	       memcmp(addr + 8, unspecified, 4) != 0;
}

/* Whether it goes where whoever holds the address listens: the target's solicited-node group. */
static bool goes_to_holders(const uint8_t *data, const uint8_t *target)
{
	static const uint8_t mac[3] = { 0x33, 0x33, 0xff };
	static const uint8_t group[13] = { 0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff };
	const uint8_t *dst = data + DP_ETH_LEN + 24;

	return memcmp(data, mac, 3) == 0 && memcmp(data + 3, target + 13, 3) == 0 &&
	       memcmp(dst, group, 13) == 0 && memcmp(dst + 13, target + 13, 3) == 0;
}

/* Whether the ICMPv6 checksum is right (RFC 4443, section 2.3): else receivers ignore it all. */
static bool checksum_is_right(const struct dp_frame *frame)
{
	const uint8_t *message = frame->data + frame->l4_off;
	size_t len = frame->l3_end - frame->l4_off;
	uint32_t sum = (uint32_t)len + DP_IPPROTO_ICMPV6;

	for (size_t i = 0; i < 32; i += 2)
		sum += dp_get16(frame->data + DP_ETH_LEN + 8 + i);
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += dp_get16(message + i);
	if (len % 2)
		sum += (uint32_t)message[len - 1] << 8;
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16) == 0xffff;
}

bool dp_claim_is_made(const struct dp_binding *bind, const struct dp_frame *frame)
{
	const uint8_t *nd = frame->data + ND_OFF;

	if (!(bind->flags & DP_VIF_FIRST_COME) || frame->l3 != DP_L3_IPV6 || !frame->has_l4 ||
	    frame->l4_off != ND_OFF || frame->l4_proto != DP_IPPROTO_ICMPV6 ||
	    frame->l3_end < ND_OFF + ND_LEN || nd[0] != DP_ICMPV6_NS ||
	    memcmp(frame->data + DP_ETH_LEN + 8, unspecified, 16) != 0)
		return false;
	return is_claimable(nd + 8) && !dp_binding_has_ipv6(bind, nd + 8) &&
	       goes_to_holders(frame->data, nd + 8) && checksum_is_right(frame);
}

bool dp_claim_may(const struct dp_table *table, uint16_t port, const uint8_t *addr)
{
	const struct dp_port *p = &table->ports[port];
	uint16_t uplink = table->networks[p->network].uplink;
	uint16_t holder = dp_table_find_ipv6(table, p->network, addr);

	if (uplink != DP_NO_PORT && !table->ports[uplink].up)
		return false;
	if (holder != DP_NO_PORT)
		return holder == port;
	return p->bind.n_claims < DP_MAX_CLAIMS && dp_index_has_room(&table->index, 1);
}

void dp_claim_add(struct dp_table *table, uint16_t port, const uint8_t *addr, uint64_t now_ns)
{
	struct dp_port *p = &table->ports[port];
	struct dp_key key = claim_key(p, port, addr);
	struct dp_claim *claim = &p->bind.claims[p->bind.n_claims];

	if (dp_index_find(&table->index, &key) != DP_NO_PORT)
		return;
	memcpy(claim->prefix.addr, addr, 16);
	claim->prefix.len = 128;
	claim->since_ns = now_ns;
	p->bind.n_claims++;
	dp_index_insert(&table->index, &key);
}

void dp_claim_ripen(struct dp_binding *bind, uint64_t now_ns)
{
	while (bind->n_firm < bind->n_claims &&
	       now_ns - bind->claims[bind->n_firm].since_ns >= DP_CLAIM_WAIT_NS)
		bind->n_firm++;
}

bool dp_claim_yield(struct dp_table *table, uint16_t port, const uint8_t *addr)
{
	struct dp_port *p = &table->ports[port];
	struct dp_binding *bind = &p->bind;

	for (unsigned int i = bind->n_firm; i < bind->n_claims; i++) {
		struct dp_key key = claim_key(p, port, addr);

		if (memcmp(bind->claims[i].prefix.addr, addr, 16) != 0)
			continue;
		dp_index_remove(&table->index, &key);
		bind->n_claims--;
		memmove(&bind->claims[i], &bind->claims[i + 1],
			(bind->n_claims - i) * sizeof(bind->claims[0]));
		return true;
	}
	return false;
}

/* Ends the claims of a vif but for the first @n_kept. */
static void end_from(struct dp_table *table, uint16_t port, uint8_t n_kept)
{
	struct dp_port *p = &table->ports[port];

	for (unsigned int i = n_kept; i < p->bind.n_claims; i++) {
		struct dp_key key = claim_key(p, port, p->bind.claims[i].prefix.addr);

		dp_index_remove(&table->index, &key);
	}
	p->bind.n_claims = n_kept;
}

void dp_claim_end_all(struct dp_table *table, uint16_t port)
{
	end_from(table, port, 0);
	table->ports[port].bind.n_firm = 0;
}

void dp_claim_wire_lost(struct dp_table *table, uint16_t network, uint64_t now_ns)
{
	for (uint16_t port = table->networks[network].first; port != DP_NO_PORT;
	     port = table->ports[port].next) {
		struct dp_binding *bind = &table->ports[port].bind;

		dp_claim_ripen(bind, now_ns);
		end_from(table, port, bind->n_firm);
	}
}
