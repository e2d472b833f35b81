/* SPDX-License-Identifier: Apache-2.0 */
#include "forward.h"

#include <string.h>

#include "claim.h"
#include "ingress.h"
#include "offload.h"

static const uint8_t zero[16];

static void decide(struct dp_decision *decision, enum dp_verdict verdict)
{
	decision->verdict = (uint8_t)verdict;
	decision->route = DP_ROUTE_NONE;
}

static void to_port(struct dp_decision *decision, uint16_t port)
{
	if (port == DP_NO_PORT) {
		decide(decision, DP_DROP_NO_RECEIVER);
		return;
	}
	decision->verdict = DP_PASS;
	decision->route = DP_ROUTE_PORT;
	decision->port = port;
}

static void to_all(struct dp_decision *decision, uint16_t network, enum dp_route route)
{
	decision->verdict = DP_PASS;
	decision->route = (uint8_t)route;
	decision->network = network;
}

static bool is_host(const struct dp_table *table, uint16_t port)
{
	return port != DP_NO_PORT && table->ports[port].bind.flags & DP_VIF_HOST;
}

static bool is_nd(const struct dp_frame *frame, uint8_t type)
{
	return frame->l3 == DP_L3_IPV6 && frame->has_l4 && frame->l4_proto == DP_IPPROTO_ICMPV6 &&
	       frame->data[frame->l4_off] == type && frame->l3_end - frame->l4_off >= 24;
}

bool dp_forward_asks_for(const struct dp_table *table, uint16_t network,
			 const struct dp_frame *frame, uint16_t *holder)
{
	if (frame->l3 == DP_L3_ARP && frame->malformed == DP_PASS &&
	    dp_get16(frame->data + DP_ETH_LEN + 6) == 1) {
		*holder = dp_table_find_ipv4(table, network, frame->data + DP_ETH_LEN + 24);
		return true;
	}
	if (is_nd(frame, DP_ICMPV6_NS)) {
		*holder = dp_table_find_ipv6(table, network, frame->data + frame->l4_off + 8);
		return true;
	}
	return false;
}

/* Charges a passed frame to the vif that sent it; nothing is taken unless all of it is there. */
static enum dp_verdict charge(const struct dp_table *table, struct dp_port *port,
			      const struct dp_frame *frame, const struct dp_decision *decision,
			      uint64_t now_ns)
{
	uint64_t frames = dp_offload_segments(frame), bytes = dp_offload_bytes(frame);
	bool group = dp_is_group(frame->data);
	uint64_t copies = 0;

	dp_bucket_refill(&port->frames, now_ns);
	dp_bucket_refill(&port->bytes, now_ns);
	if (!dp_bucket_has(&port->frames, frames) || !dp_bucket_has(&port->bytes, bytes))
		return DP_DROP_RATE_LIMIT;
	if (group || decision->route >= DP_ROUTE_FLOOD) {
		dp_bucket_refill(&port->broadcasts, now_ns);
		dp_bucket_refill(&port->copies, now_ns);
		if (decision->route >= DP_ROUTE_FLOOD) {
			const struct dp_network *network = &table->networks[decision->network];

			copies = (uint64_t)network->n_up + (decision->route == DP_ROUTE_FLOOD &&
							    network->uplink != DP_NO_PORT);
			copies = copies > port->up ? copies - port->up : 0;
			copies *= frames;
		} else {
			copies = decision->route == DP_ROUTE_PORT;
		}
		if (!dp_bucket_has(&port->broadcasts, group) ||
		    !dp_bucket_has(&port->copies, copies))
			return DP_DROP_BROADCAST_LIMIT;
		dp_bucket_take(&port->broadcasts, group);
		dp_bucket_take(&port->copies, copies);
	}
	dp_bucket_take(&port->frames, frames);
	dp_bucket_take(&port->bytes, bytes);
	return DP_PASS;
}

/* Whether the host would route a frame to its MAC on to somewhere else, as far as it forwards. */
static bool is_beyond_host(const struct dp_port *host, const struct dp_frame *frame)
{
	const uint8_t *ipv4 = frame->data + DP_ETH_LEN + 16, *ipv6 = frame->data + DP_ETH_LEN + 24;

	switch (frame->l3) {
	case DP_L3_IPV4:
		return (ipv4[0] & 0xf0) != 0xe0 && !dp_binding_has_ipv4(&host->bind, ipv4);
	case DP_L3_IPV6:
		return ipv6[0] != 0xff && !dp_binding_has_ipv6(&host->bind, ipv6);
	default:
		return false;
	}
}

static void route_from_vif(const struct dp_table *table, uint16_t port, struct dp_port *own,
			   const struct dp_frame *frame, struct dp_decision *decision)
{
	uint16_t id = own->network;
	const struct dp_network *network = &table->networks[id];
	bool host = is_host(table, port);
	uint16_t uplink = host ? DP_NO_PORT : network->uplink;
	enum dp_route all = host ? DP_ROUTE_MEMBERS : DP_ROUTE_FLOOD;
	uint16_t holder = dp_table_find_mac_for(table, own, frame->data);

	if (holder != port && is_host(table, holder) &&
	    is_beyond_host(&table->ports[holder], frame)) {
		decide(decision, DP_DROP_NO_RECEIVER);
	} else if (network->mode == DP_MODE_HUB) {
		/* What is meant for a vif stays off the wire. */
		if (holder != DP_NO_PORT)
			all = DP_ROUTE_MEMBERS;
		to_all(decision, id, all);
	} else if (!dp_is_group(frame->data)) {
		if (holder == port)
			holder = DP_NO_PORT; /* a frame never returns to where it came from */
		else if (holder == DP_NO_PORT)
			holder = uplink;
		to_port(decision, holder);
	} else if (!decision->claims && dp_forward_asks_for(table, id, frame, &holder) &&
		   holder != port) {
		to_port(decision, holder == DP_NO_PORT ? uplink : holder);
	} else {
		to_all(decision, id, all);
	}
}

/* What changes is only @charged, the vif's row or a copy of it. */
static void judge_from_vif(const struct dp_table *table, uint16_t port, struct dp_port *charged,
			   struct dp_frame *frame, const uint8_t *data, size_t len,
			   uint64_t now_ns, bool peek, struct dp_decision *decision)
{
	enum dp_verdict verdict;

	decision->port = DP_NO_PORT;
	decision->network = DP_NO_PORT;
	decision->conflict = DP_NO_PORT;
	decision->claims = false;
	decision->filtered = false;
	decision->step = DP_STEP_FRAME;
	if (dp_frame_parse(frame, data, len) < 0) {
		decide(decision, len < DP_ETH_LEN ? DP_DROP_RUNT : DP_DROP_OVERSIZE);
		return;
	}
	decision->step = DP_STEP_INGRESS;
	if (!charged) {
		decide(decision, DP_DROP_SRC_MAC);
		return;
	}
	dp_claim_ripen(&charged->bind, now_ns);
	verdict = dp_ingress_check(&charged->bind, table->networks[charged->network].mtu, frame);
	if (verdict == DP_PASS && dp_claim_is_made(&charged->bind, frame)) {
		decision->claims = dp_claim_may(table, port, frame->data + frame->l4_off + 8);
		verdict = decision->claims ? DP_PASS : DP_DROP_ND_SPOOF;
	}
	if (verdict != DP_PASS) {
		decide(decision, verdict);
		return;
	}
	decision->step = DP_STEP_FILTER;
	decision->filtered = charged->gate != NULL;
	if (decision->filtered && dp_gate_judge(charged->gate, frame, DP_GATE_OUT, now_ns, peek,
						&decision->passage) != DP_ACT_ACCEPT) {
		decide(decision, DP_DROP_FILTER_OUT);
		return;
	}
	decision->step = DP_STEP_FORWARD;
	route_from_vif(table, port, charged, frame, decision);
	verdict = charge(table, charged, frame, decision, now_ns);
	if (verdict != DP_PASS)
		decide(decision, verdict);
	if (verdict != DP_PASS || decision->verdict == DP_PASS)
		decision->step = DP_STEP_LIMIT;
}

static bool is_vif(const struct dp_table *table, uint16_t port)
{
	return port < DP_MAX_PORTS && table->ports[port].kind == DP_PORT_VIF;
}

void dp_forward_from_vif(struct dp_table *table, uint16_t port, struct dp_frame *frame,
			 const uint8_t *data, size_t len, uint64_t now_ns,
			 struct dp_decision *decision)
{
	struct dp_port *own = is_vif(table, port) ? &table->ports[port] : NULL;

	judge_from_vif(table, port, own, frame, data, len, now_ns, false, decision);
	/* Not before it is sure that all are asked. */
	if (decision->claims && decision->verdict == DP_PASS)
		dp_claim_add(table, port, frame->data + frame->l4_off + 8, now_ns);
}

void dp_forward_trace(const struct dp_table *table, uint16_t port, struct dp_frame *frame,
		      const uint8_t *data, size_t len, uint64_t now_ns,
		      struct dp_decision *decision)
{
	struct dp_port copy;

	if (is_vif(table, port))
		copy = table->ports[port];
	judge_from_vif(table, port, is_vif(table, port) ? &copy : NULL, frame, data, len, now_ns,
		       true, decision);
}

uint16_t dp_forward_next(const struct dp_table *table, const struct dp_decision *decision,
			 uint16_t from, uint16_t after)
{
	const struct dp_network *network;
	uint16_t id;

	if (decision->route == DP_ROUTE_NONE)
		return DP_NO_PORT;
	if (decision->route == DP_ROUTE_PORT)
		return after == DP_NO_PORT ? decision->port : DP_NO_PORT;
	network = &table->networks[decision->network];
	if (after != DP_NO_PORT && after == network->uplink)
		return DP_NO_PORT;
	id = after == DP_NO_PORT ? network->first : table->ports[after].next;
	while (id != DP_NO_PORT && (id == from || !table->ports[id].up ||
				    (from == network->uplink && is_host(table, id))))
		id = table->ports[id].next;
	if (id == DP_NO_PORT && decision->route == DP_ROUTE_FLOOD && network->uplink != from)
		id = network->uplink;
	return id;
}

size_t dp_forward_list(const struct dp_table *table, const struct dp_decision *decision,
		       uint16_t from, uint16_t *ports, size_t most)
{
	size_t n = 0;

	for (uint16_t id = dp_forward_next(table, decision, from, DP_NO_PORT); id != DP_NO_PORT;
	     id = dp_forward_next(table, decision, from, id)) {
		if (n < most)
			ports[n] = id;
		n++;
	}
	return n;
}

/* Notes that a stranger claims what @holder is bound to; @bytes is 4 or 16. */
static void note_conflict(struct dp_decision *decision, uint16_t holder, const uint8_t *addr,
			  size_t bytes)
{
	decision->conflict = holder;
	decision->conflict_family = bytes == 4 ? 4 : 6;
	memset(decision->conflict_addr, 0, sizeof(decision->conflict_addr));
	memcpy(decision->conflict_addr, addr, bytes);
}

/* The vif that holds an address against the wire: what is claimed only yields to it. */
static uint16_t firm_holder(struct dp_table *table, uint16_t network, const uint8_t *addr)
{
	uint16_t holder = dp_table_find_ipv6(table, network, addr);

	return holder != DP_NO_PORT && dp_claim_yield(table, holder, addr) ? DP_NO_PORT : holder;
}

/* Whether a frame from the wire claims an address that is bound here. */
static bool claims_ours(struct dp_table *table, uint16_t network,
			const struct dp_frame *frame, struct dp_decision *decision)
{
	const uint8_t *l3 = frame->data + DP_ETH_LEN;
	uint16_t holder;

	/* A receiver may take what the parser does not, so every source that is there counts. */
	switch (frame->l3) {
	case DP_L3_ARP:
		if (frame->len < DP_ETH_LEN + 28 || memcmp(l3 + 14, zero, 4) == 0)
			return false;
		holder = dp_table_find_ipv4(table, network, l3 + 14);
		if (holder != DP_NO_PORT)
			note_conflict(decision, holder, l3 + 14, 4);
		return holder != DP_NO_PORT;
	case DP_L3_IPV4:
		return frame->len >= DP_ETH_LEN + 20 &&
		       dp_table_find_ipv4(table, network, l3 + 12) != DP_NO_PORT;
	case DP_L3_IPV6:
		if (frame->len < DP_ETH_LEN + 40)
			return false;
		if (is_nd(frame, DP_ICMPV6_NA)) {
			const uint8_t *target = frame->data + frame->l4_off + 8;

			holder = firm_holder(table, network, target);
			if (holder != DP_NO_PORT) {
				note_conflict(decision, holder, target, 16);
				return true;
			}
		}
		holder = firm_holder(table, network, l3 + 8);
		if (holder != DP_NO_PORT &&
		    (is_nd(frame, DP_ICMPV6_NS) || is_nd(frame, DP_ICMPV6_NA)))
			note_conflict(decision, holder, l3 + 8, 16);
		return holder != DP_NO_PORT;
	default:
		return false;
	}
}

static void route_from_uplink(const struct dp_table *table, uint16_t id,
			      const struct dp_frame *frame, struct dp_decision *decision)
{
	uint16_t holder;

	if (table->networks[id].mode == DP_MODE_HUB) {
		to_all(decision, id, DP_ROUTE_FLOOD);
		return;
	}
	if (!dp_is_group(frame->data)) {
		holder = dp_table_find_mac(table, id, frame->data);
	} else if (!dp_forward_asks_for(table, id, frame, &holder)) {
		to_all(decision, id, DP_ROUTE_FLOOD);
		return;
	}
	/* The host hears the wire by its NIC, which answers for it there as well. */
	to_port(decision, is_host(table, holder) ? DP_NO_PORT : holder);
}

void dp_forward_from_uplink(struct dp_table *table, uint16_t port, struct dp_frame *frame,
			    const uint8_t *data, size_t len, struct dp_decision *decision)
{
	uint16_t id;

	decision->port = DP_NO_PORT;
	decision->network = DP_NO_PORT;
	decision->conflict = DP_NO_PORT;
	decision->claims = false;
	decision->filtered = false;
	if (dp_frame_parse(frame, data, len) < 0) {
		decide(decision, len < DP_ETH_LEN ? DP_DROP_RUNT : DP_DROP_OVERSIZE);
		return;
	}
	if (dp_frame_is_reserved(frame)) {
		decide(decision, DP_DROP_RESERVED_MAC);
		return;
	}
	if (frame->meta.vlan || dp_frame_is_tagged(frame)) {
		decide(decision, DP_DROP_UPLINK_VLAN);
		return;
	}
	id = port < DP_MAX_PORTS ? table->ports[port].network : DP_NO_PORT;
	if (id == DP_NO_PORT) {
		decide(decision, DP_DROP_NO_RECEIVER);
		return;
	}
	if (dp_is_group(data + DP_MAC_LEN) ||
	    dp_table_find_mac(table, id, data + DP_MAC_LEN) != DP_NO_PORT ||
	    claims_ours(table, id, frame, decision)) {
		decide(decision, DP_DROP_UPLINK_SPOOF);
		return;
	}
	/* What stands behind a broken chain cannot be judged, but a receiver may find it. */
	if (frame->malformed == DP_DROP_EXT_HEADER) {
		decide(decision, DP_DROP_EXT_HEADER);
		return;
	}
	route_from_uplink(table, id, frame, decision);
	if (decision->verdict == DP_PASS && !dp_frame_fits_mtu(frame, table->networks[id].mtu))
		decide(decision, DP_DROP_EGRESS_MTU);
}
