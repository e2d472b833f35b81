/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

#include <string.h>

/* Answers to what was rejected, a second: enough for people, too few to be a weapon. */
#define REJECTS_PER_S 100

/* Where the frames of a class hold what is looked at, in words. */
static const uint8_t n_words[DP_N_CLASSES] = {
	[DP_CLASS_ARP] = 6,
	[DP_CLASS_IPV4] = 6,
	[DP_CLASS_IPV6] = DP_KEY_WORDS,
};

/* Odd numbers without a pattern: digits of pi. */
static const uint64_t factors[DP_KEY_WORDS] = {
	0x243f6a8885a308d3, 0x13198a2e03707345, 0xa4093822299f31d1, 0x082efa98ec4e6c89,
	0x452821e638d01377, 0xbe5466cf34e90c6d, 0xc0ac29b7c97c50dd, 0x3f84d5b5b5470917,
	0x9216d5d98979fb1b,
};

size_t dp_gate_size(void)
{
	return sizeof(struct dp_gate);
}

void dp_gate_init(struct dp_gate *gate, const struct dp_filter *filter, struct dp_flows *flows)
{
	gate->filter = filter;
	gate->flows = flows;
	dp_bucket_set(&gate->rejects, REJECTS_PER_S);
}

_Static_assert((DP_GATE_KEPT & (DP_GATE_KEPT - 1)) == 0, "a slot is masked");

/* Takes a frame's words that a list looks at. Return: the slot of its verdict. */
static inline unsigned int take_key(uint64_t key[DP_KEY_WORDS], const uint64_t *mask,
				    const struct dp_frame *frame, unsigned int n)
{
	uint64_t hash = 0;

	if (frame->len >= n * sizeof(uint64_t)) {
		memcpy(key, frame->data, n * sizeof(uint64_t));
	} else {
		memset(key, 0, n * sizeof(uint64_t));
		memcpy(key, frame->data, frame->len);
	}
	for (unsigned int i = 0; i < n; i++) {
		key[i] &= mask[i];
		hash += (key[i] ^ key[i] >> 32) * factors[i];
	}
	return (unsigned int)(hash >> 48);
}

static inline bool same_key(const uint64_t *a, const uint64_t *b, unsigned int n)
{
	uint64_t differs = 0;

	for (unsigned int i = 0; i < n; i++)
		differs |= a[i] ^ b[i];
	return !differs;
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

/* Lets one list decide, by what was kept of a frame that was the same to it. */
static enum dp_filter_action consult(struct dp_gate *gate, const struct dp_frame *frame,
				     enum dp_filter_class class, unsigned int id, bool peek,
				     struct dp_passage *passage)
{
	const struct dp_filter_list *list = &gate->filter->lists[id];
	uint64_t key[DP_KEY_WORDS];
	enum dp_filter_action action;
	struct dp_kept *kept;
	unsigned int n, slot;
	uint8_t ct = 0;

	passage->list[passage->layer] = (uint8_t)id;
	if (!list->n)
		return DP_ACT_ACCEPT;
	if (class == DP_CLASS_NONE || list->fickle)
		return walk(gate, frame, id, passage);
	n = n_words[class];
	slot = take_key(key, list->mask[class], frame, n);
	if (list->stateful)
		ct = (uint8_t)(passage->track.state * 2 + passage->track.reply);
	kept = &gate->kept[(slot + id * 97 + ct * 31u) & (DP_GATE_KEPT - 1)];
	if (kept->list == id + 1 && kept->class == class && kept->ct == ct &&
	    same_key(kept->key, key, n)) {
		passage->origin[passage->layer] = kept->origin;
		passage->list[passage->layer] = kept->decided;
		return (enum dp_filter_action)kept->action;
	}
	action = walk(gate, frame, id, passage);
	if (peek)
		return action;
	memcpy(kept->key, key, n * sizeof(uint64_t));
	kept->origin = passage->origin[passage->layer];
	kept->list = (uint8_t)(id + 1);
	kept->class = (uint8_t)class;
	kept->ct = ct;
	kept->action = (uint8_t)action;
	kept->decided = passage->list[passage->layer];
	return action;
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
	enum dp_filter_class class = dp_filter_class(frame);
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
