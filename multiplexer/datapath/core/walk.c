/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking a filter's lists.  Nothing of the table is checked here, since loading did.
 */
#include <string.h>

#include "field.h"

/* ---- conditions ---- */

static bool is_masked(const uint8_t *bytes, const uint8_t *value, const uint8_t *mask, size_t len)
{
	uint8_t differs = 0;

	for (size_t i = 0; i < len; i++)
		differs |= (uint8_t)((bytes[i] ^ value[i]) & mask[i]);
	return !differs;
}

/* Whether an address is in one of @n ranges, in order: by halves. */
static bool is_in_set(const struct dp_filter_range *ranges, uint32_t n, const uint8_t *addr,
		      size_t len)
{
	uint8_t wide[16] = { 0 };
	uint32_t low = 0, high = n;

	memcpy(wide, addr, len);
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (memcmp(ranges[middle].highest, wide, 16) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && memcmp(ranges[low].lowest, wide, 16) <= 0;
}

static bool is_pair(uint32_t value, uint32_t lowest, uint32_t highest)
{
	return value >> 8 >= lowest >> 8 && value >> 8 <= highest >> 8 &&
	       (value & 0xff) >= (lowest & 0xff) && (value & 0xff) <= (highest & 0xff);
}

static bool meets(const struct dp_walk *walk, const struct dp_filter_cond *cond)
{
	const struct dp_filter *filter = walk->filter;
	const uint8_t *bytes;
	uint32_t value;
	size_t len;
	bool is;

	switch (cond->kind) {
	case DP_COND_NUMBER:
		if (cond->field == DP_FIELD_CT) {
			is = cond->a & DP_CT_BIT(walk->track->state, walk->track->reply);
			break;
		}
		if (cond->field == DP_FIELD_TCP_OPTION) {
			if (!dp_field_has_tcp(walk->frame))
				return false;
			is = dp_field_has_tcp_option(walk->frame, cond->a, cond->b);
			break;
		}
		if (!dp_field_number(walk->frame, cond->field, &value))
			return false;
		is = (value & cond->c) >= cond->a && (value & cond->c) <= cond->b;
		break;
	case DP_COND_PAIR:
		if (!dp_field_number(walk->frame, cond->field, &value))
			return false;
		is = is_pair(value, cond->a, cond->b);
		break;
	case DP_COND_COUNT:
		is = dp_flow_count(walk->flows, walk->track, cond->a) > cond->b;
		break;
	default:
		bytes = dp_field_address(walk->frame, cond->field, &len);
		if (!bytes)
			return false;
		if (cond->kind == DP_COND_MASKED)
			is = is_masked(bytes, filter->wides[cond->a], filter->wides[cond->b], len);
		else if (cond->kind == DP_COND_BETWEEN)
			is = memcmp(bytes, filter->wides[cond->a], len) >= 0 &&
			     memcmp(bytes, filter->wides[cond->b], len) <= 0;
		else
			is = is_in_set(filter->ranges + cond->a, cond->b, bytes, len);
	}
	return is != cond->negated;
}

/* ---- rules ---- */

/* The rules of a list that a frame may meet, in order: three sorted runs, merged. */
struct cursor {
	const uint64_t *at[3], *end[3];
	uint32_t next, stop; /* of a list without an index */
};

static const uint64_t *first_not_below(const uint64_t *keys, uint32_t n, uint64_t key)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (keys[middle] < key)
			low = middle + 1;
		else
			high = middle;
	}
	return keys + low;
}

static void start(struct cursor *cursor, const struct dp_filter *filter,
		  const struct dp_filter_list *list, const struct dp_frame *frame)
{
	const uint64_t *keys = filter->keys + list->first_key;
	uint32_t n[2] = { list->n_dst, list->n_src };

	cursor->next = list->first;
	cursor->stop = list->first + list->n;
	if (!list->indexed)
		return;
	for (unsigned int part = 0; part < 2; part++) {
		cursor->at[part] = cursor->end[part] = keys;
		if (n[part] && dp_field_has_ports(frame)) {
			uint64_t port = dp_get16(frame->data + frame->l4_off + (part ? 0 : 2));

			cursor->at[part] = first_not_below(keys, n[part], port << 32);
			cursor->end[part] = first_not_below(keys, n[part], (port + 1) << 32);
		}
		keys += n[part];
	}
	cursor->at[2] = keys;
	cursor->end[2] = keys + list->n_wild;
}

static bool next_rule(struct cursor *cursor, bool indexed, uint32_t *id)
{
	unsigned int from = 3;

	if (!indexed) {
		*id = cursor->next++;
		return *id < cursor->stop;
	}
	*id = UINT32_MAX;
	for (unsigned int part = 0; part < 3; part++) {
		if (cursor->at[part] < cursor->end[part] && (uint32_t)*cursor->at[part] < *id) {
			*id = (uint32_t)*cursor->at[part];
			from = part;
		}
	}
	if (from == 3)
		return false;
	cursor->at[from]++;
	return true;
}

/* The first rule of a list from the cursor on that a frame meets and that does not only go on. */
static const struct dp_filter_rule *find_rule(struct dp_walk *walk, struct cursor *cursor,
					      bool indexed)
{
	uint32_t id;

	while (next_rule(cursor, indexed, &id)) {
		const struct dp_filter_rule *rule = &walk->filter->rules[id];
		const struct dp_filter_cond *cond = &walk->filter->conds[rule->first_cond];
		const struct dp_filter_cond *end = cond + rule->n_conds;

		walk->steps++;
		while (cond < end && meets(walk, cond))
			cond++;
		if (cond == end && rule->action != DP_ACT_CONTINUE)
			return rule;
	}
	return NULL;
}

static enum dp_filter_action decide(struct dp_walk *walk, const struct dp_filter_rule *rule,
				    unsigned int list)
{
	walk->origin = rule ? rule->origin : DP_NO_RULE;
	walk->list = (uint8_t)list;
	if (!rule || rule->action == DP_ACT_RETURN)
		return DP_ACT_ACCEPT;
	return (enum dp_filter_action)rule->action;
}

_Static_assert(DP_FILTER_MAX_LISTS <= 256, "a list is one byte of a walk");

enum dp_filter_action dp_filter_walk(struct dp_walk *walk, unsigned int id)
{
	const struct dp_filter_list *list = &walk->filter->lists[id];
	const struct dp_filter_rule *rule;
	struct cursor root;

	walk->steps = 0;
	start(&root, walk->filter, list, walk->frame);
	while ((rule = find_rule(walk, &root, list->indexed)) && rule->action == DP_ACT_JUMP) {
		const struct dp_filter_list *sub = &walk->filter->lists[rule->target];
		unsigned int target = rule->target;
		struct cursor cursor;

		start(&cursor, walk->filter, sub, walk->frame);
		rule = find_rule(walk, &cursor, sub->indexed);
		/* The end of a list that was jumped to accepts, unlike a return. */
		if (!rule || rule->action != DP_ACT_RETURN)
			return decide(walk, rule, target);
	}
	return decide(walk, rule, id);
}
