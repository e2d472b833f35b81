/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

#include <string.h>

/* Answers to what was rejected, a second: enough for people, too few to be a weapon. */
#define REJECTS_PER_S 100

/* Up to there frames of ARP and of IPv4 hold what is looked at; those of IPv6 longer. */
#define SHORT_WORDS 6

/* 2^64 divided by the golden ratio: a product's upper bits depend on all of a number's. */
#define FACTOR 0x9e3779b97f4a7c15ull

size_t dp_gate_size(void)
{
	return sizeof(struct dp_gate);
}

void dp_gate_init(struct dp_gate *gate, const struct dp_filter *filter, struct dp_flows *flows)
{
	gate->filter = filter;
	gate->lists = filter->lists;
	for (unsigned int list = 0; list < DP_N_FIXED_LISTS; list++)
		gate->last[list] = gate->kept;
	gate->flows = flows;
	gate->learns = filter->learns;
	dp_bucket_set(&gate->rejects, REJECTS_PER_S);
}

/* Which of the classes a frame is of, or DP_CLASS_NONE. */
static inline enum dp_filter_class class_of(const struct dp_frame *frame)
{
	uint8_t proto = frame->l4_proto;
	bool common = proto == DP_IPPROTO_TCP || proto == DP_IPPROTO_UDP;

	if (frame->malformed != DP_PASS || frame->fragment)
		return DP_CLASS_NONE;
	if (frame->l3 == DP_L3_IPV4 && frame->l4_off == DP_ETH_LEN + 20 &&
	    (common || proto == DP_IPPROTO_ICMP))
		return DP_CLASS_IPV4;
	if (frame->l3 == DP_L3_IPV6 && frame->l4_off == DP_ETH_LEN + 40 &&
	    (common || proto == DP_IPPROTO_ICMPV6))
		return DP_CLASS_IPV6;
	return frame->l3 == DP_L3_ARP ? DP_CLASS_ARP : DP_CLASS_NONE;
}

_Static_assert((DP_GATE_KEPT & (DP_GATE_KEPT - 1)) == 0, "a slot is masked");

/* Whether a frame is the same, to a list, as one whose verdict is kept. */
static inline bool has_words(const struct dp_kept *kept, const uint8_t *bytes,
			     const uint64_t *mask, unsigned int n)
{
	uint64_t differs = 0;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t word;

		memcpy(&word, bytes + i * sizeof(word), sizeof(word));
		differs |= (word & mask[i]) ^ kept->key[i];
	}
	return !differs;
}

/* The hash of what a list looks at of a frame: two chains side by side. */
static inline unsigned int hash_of(const uint8_t *bytes, const uint64_t *mask, unsigned int n)
{
	uint64_t chain[2] = { 0, 1 };

	for (unsigned int i = 0; i < n; i++) {
		uint64_t word;

		memcpy(&word, bytes + i * sizeof(word), sizeof(word));
		chain[i & 1] = (chain[i & 1] ^ (word & mask[i])) * FACTOR;
		chain[i & 1] ^= chain[i & 1] >> 32;
	}
	chain[0] = (chain[0] + chain[1]) * FACTOR;
	return (unsigned int)(chain[0] >> 32);
}

/* The frame's bytes; one that is shorter than a key is copied, and followed by zeroes. */
static const uint8_t *bytes_of(const struct dp_frame *frame, unsigned int n,
			       uint8_t padded[DP_KEY_WORDS * sizeof(uint64_t)])
{
	if (frame->len >= n * sizeof(uint64_t))
		return frame->data;
	memset(padded, 0, DP_KEY_WORDS * sizeof(uint64_t));
	memcpy(padded, frame->data, frame->len);
	return padded;
}

static enum dp_filter_action walk(const struct dp_gate *gate, const struct dp_frame *frame,
				  unsigned int list, struct dp_passage *passage)
{
	struct dp_walk walk = {
		.filter = gate->filter,
		.frame = frame,
		.flows = gate->flows,
		.track = &passage->track,
	};
	enum dp_filter_action action = dp_filter_walk(&walk, list);

	passage->steps += walk.steps;
	passage->origin[passage->layer] = walk.origin;
	passage->list[passage->layer] = walk.list;
	return action;
}

/* Walks a list, and keeps what comes of it in a slot. */
static enum dp_filter_action decide(struct dp_gate *gate, const struct dp_frame *frame,
				    unsigned int id, struct dp_kept *kept,
				    struct dp_passage *passage)
{
	enum dp_filter_action action = walk(gate, frame, id, passage);

	kept->origin = passage->origin[passage->layer];
	kept->decided = passage->list[passage->layer];
	kept->action = (uint8_t)action;
	return action;
}

static inline bool is_kept(const struct dp_kept *kept, uint32_t tag, const uint8_t *bytes,
			   const uint64_t *mask, unsigned int n)
{
	return kept->tag == tag && has_words(kept, bytes, mask, n);
}

/*
 * Finds the place of what is known of a frame; where nothing is, one is made.  There are
 * two that it may be in; where both are used they are taken by turns.
 */
static inline struct dp_kept *find_place(struct dp_gate *gate, uint32_t tag, const uint8_t *bytes,
					 const uint64_t *mask, unsigned int n, bool *known)
{
	unsigned int slot =
		(hash_of(bytes, mask, n) ^ tag >> 16 ^ tag << 4) & (DP_GATE_KEPT - 1);
	struct dp_kept *kept = &gate->kept[slot], *other = &gate->kept[slot ^ 1];

	*known = true;
	if (is_kept(kept, tag, bytes, mask, n))
		return kept;
	if (is_kept(other, tag, bytes, mask, n))
		return other;
	*known = false;
	if (kept->tag && (!other->tag || gate->turn++ & 1))
		kept = other;
	kept->tag = tag;
	for (unsigned int i = 0; i < n; i++) {
		uint64_t word;

		memcpy(&word, bytes + i * sizeof(word), sizeof(word));
		kept->key[i] = word & mask[i];
	}
	return kept;
}

/* Lets one list decide over a frame of which it is not the last that is known. */
static enum dp_filter_action look_up(struct dp_gate *gate, const struct dp_frame *frame,
				     enum dp_filter_class class, unsigned int id, uint32_t tag,
				     struct dp_passage *passage)
{
	const uint64_t *mask = gate->lists[id].mask[class];
	uint8_t padded[DP_KEY_WORDS * sizeof(uint64_t)];
	struct dp_kept *kept;
	bool known;

	/* Twice the same, but that the number of words is known. */
	if (class == DP_CLASS_IPV6)
		kept = find_place(gate, tag, bytes_of(frame, DP_KEY_WORDS, padded), mask,
				  DP_KEY_WORDS, &known);
	else
		kept = find_place(gate, tag, bytes_of(frame, SHORT_WORDS, padded), mask,
				  SHORT_WORDS, &known);
	gate->last[id] = kept;
	if (!known)
		return decide(gate, frame, id, kept, passage);
	passage->origin[passage->layer] = kept->origin;
	passage->list[passage->layer] = kept->decided;
	return (enum dp_filter_action)kept->action;
}

/* Lets one list decide, by what was kept of a frame that was the same to it. */
static inline enum dp_filter_action consult(struct dp_gate *gate, const struct dp_frame *frame,
					    enum dp_filter_class class, unsigned int id, bool peek,
					    struct dp_passage *passage)
{
	const struct dp_filter_list *list = &gate->lists[id];
	const struct dp_kept *kept = gate->last[id];
	uint32_t tag = (id + 1) << 16 | (uint32_t)class << 8;

	passage->list[passage->layer] = (uint8_t)id;
	if (!list->n)
		return DP_ACT_ACCEPT;
	if (peek || class == DP_CLASS_NONE || list->fickle)
		return walk(gate, frame, id, passage);
	if (list->stateful)
		tag |= passage->track.state * 2u + passage->track.reply;
	/* What came last mostly comes again. */
	if (kept->tag != tag || frame->len < SHORT_WORDS * sizeof(uint64_t) ||
	    class == DP_CLASS_IPV6 ||
	    !has_words(kept, frame->data, list->mask[class], SHORT_WORDS))
		return look_up(gate, frame, class, id, tag, passage);
	passage->origin[passage->layer] = kept->origin;
	passage->list[passage->layer] = kept->decided;
	return (enum dp_filter_action)kept->action;
}

static enum dp_filter_action judge_network(struct dp_gate *gate, const struct dp_frame *frame,
					   enum dp_filter_class class, uint64_t now_ns, bool peek,
					   struct dp_passage *passage)
{
	unsigned int family = frame->l3 == DP_L3_IPV6;
	unsigned int list = DP_LIST_IPV4_OUT + 2 * family + passage->direction;
	enum dp_filter_action action;

	passage->layer = 1;
	if (!gate->filter->tracks[family])
		return consult(gate, frame, class, list, peek, passage);
	if (frame->fragment && !frame->first_fragment) {
		passage->list[1] = (uint8_t)list;
		return dp_flow_piece_passes(gate->flows, frame, passage->direction, now_ns) ?
			       DP_ACT_ACCEPT :
			       DP_ACT_DROP;
	}
	passage->tracked = true;
	dp_flow_find(gate->flows, frame, now_ns, &passage->track);
	if (!peek)
		dp_flow_note(gate->flows, now_ns, &passage->track);
	action = consult(gate, frame, class, list, peek, passage);
	if (frame->fragment && !peek)
		dp_flow_piece_add(gate->flows, frame, passage->direction, action == DP_ACT_ACCEPT,
				  now_ns);
	return action;
}

static enum dp_filter_action judge_link(struct dp_gate *gate, const struct dp_frame *frame,
					enum dp_filter_class class, bool peek,
					struct dp_passage *passage)
{
	passage->layer = 0;
	/* A reject of the link layer is a drop. */
	return consult(gate, frame, class, DP_LIST_L2_OUT + passage->direction, peek, passage) ==
			       DP_ACT_ACCEPT ?
		       DP_ACT_ACCEPT :
		       DP_ACT_DROP;
}

enum dp_filter_action dp_gate_judge(struct dp_gate *gate, const struct dp_frame *frame,
				    enum dp_gate_direction direction, uint64_t now_ns, bool peek,
				    struct dp_passage *passage)
{
	bool ip = frame->l3 == DP_L3_IPV4 || frame->l3 == DP_L3_IPV6;
	enum dp_filter_class class = class_of(frame);
	enum dp_filter_action action = DP_ACT_ACCEPT;

	passage->direction = (uint8_t)direction;
	passage->layer = 0;
	passage->tracked = false;
	passage->list[0] = passage->list[1] = DP_NO_LIST;
	passage->origin[0] = passage->origin[1] = DP_NO_RULE;
	passage->steps = 0;
	if (ip && frame->malformed != DP_PASS) {
		action = DP_ACT_DROP;
	} else {
		if (direction == DP_GATE_OUT)
			action = judge_link(gate, frame, class, peek, passage);
		if (action == DP_ACT_ACCEPT && ip)
			action = judge_network(gate, frame, class, now_ns, peek, passage);
		if (action == DP_ACT_ACCEPT && direction == DP_GATE_IN)
			action = judge_link(gate, frame, class, peek, passage);
	}
	passage->action = (uint8_t)action;
	return action;
}

bool dp_gate_confirm(struct dp_gate *gate, uint64_t now_ns, struct dp_passage *passage)
{
	return !passage->tracked || dp_flow_confirm(gate->flows, now_ns, &passage->track);
}
