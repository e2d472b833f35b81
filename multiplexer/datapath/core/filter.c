/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a table: every number is compared with what it counts or points to, once.
 */
#include "filter.h"

#include <string.h>

/* A shorter list is as fast without an index. */
#define MIN_INDEXED 16

#define KINDS(kind) (1u << DP_COND_##kind)

/*
 * What may be asked of a field, and where it stands in the frames of a class, in bytes
 * from the start; 0 where they have none, or it is not one of theirs alone.
 */
struct field {
	uint8_t kinds;
	uint8_t len;
	uint8_t at[DP_N_CLASSES];
};

#define ETH(offset, bytes, allowed)                                                                \
	{                                                                                          \
		.kinds = (allowed), .len = (bytes), .at = { (offset), (offset), (offset) }         \
	}

static const struct field fields[DP_N_FIELDS] = {
	/* The first byte of a frame is looked at by ETH_DST alone: see look_at(). */
	[DP_FIELD_ETH_DST] = ETH(0, 6, KINDS(MASKED)),
	[DP_FIELD_ETH_SRC] = ETH(6, 6, KINDS(MASKED)),
	[DP_FIELD_ETH_TYPE] = ETH(12, 2, KINDS(NUMBER)),
	[DP_FIELD_VLAN_ID] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_VLAN_TYPE] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_TYPE] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_FLAGS] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_ROOT_PRIORITY] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_ROOT_ADDR] = { .kinds = KINDS(MASKED) },
	[DP_FIELD_STP_ROOT_COST] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_SENDER_PRIORITY] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_SENDER_ADDR] = { .kinds = KINDS(MASKED) },
	[DP_FIELD_STP_PORT] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_AGE] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_MAX_AGE] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_HELLO_TIME] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_STP_FORWARD_DELAY] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_ARP_HWTYPE] = { KINDS(NUMBER), 2, { 14 } },
	[DP_FIELD_ARP_PROTOCOL] = { KINDS(NUMBER), 2, { 16 } },
	[DP_FIELD_ARP_OPCODE] = { KINDS(NUMBER), 2, { 20 } },
	[DP_FIELD_ARP_SRC_MAC] = { KINDS(MASKED), 6, { 22 } },
	[DP_FIELD_ARP_DST_MAC] = { KINDS(MASKED), 6, { 32 } },
	[DP_FIELD_ARP_SRC_IP] = { KINDS(NUMBER), 4, { 28 } },
	[DP_FIELD_ARP_DST_IP] = { KINDS(NUMBER), 4, { 38 } },
	[DP_FIELD_ARP_GRATUITOUS] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_IPV4_SRC] = { KINDS(NUMBER) | KINDS(SET), 4, { 0, 26 } },
	[DP_FIELD_IPV4_DST] = { KINDS(NUMBER) | KINDS(SET), 4, { 0, 30 } },
	[DP_FIELD_IPV6_SRC] = { KINDS(MASKED) | KINDS(BETWEEN) | KINDS(SET), 16, { 0, 0, 22 } },
	[DP_FIELD_IPV6_DST] = { KINDS(MASKED) | KINDS(BETWEEN) | KINDS(SET), 16, { 0, 0, 38 } },
	[DP_FIELD_PROTOCOL] = { KINDS(NUMBER), 1, { 0, 23, 20 } },
	[DP_FIELD_AH] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_DSCP] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_SRC_PORT] = { KINDS(NUMBER), 2, { 0, 34, 54 } },
	[DP_FIELD_DST_PORT] = { KINDS(NUMBER), 2, { 0, 36, 56 } },
	[DP_FIELD_ICMP] = { KINDS(PAIR), 2, { 0, 34, 54 } },
	[DP_FIELD_TCP_FLAGS] = { KINDS(NUMBER), 1, { 0, 47, 67 } },
	[DP_FIELD_TCP_OPTION] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_CT] = { .kinds = KINDS(NUMBER) },
	[DP_FIELD_CONNECTIONS] = { .kinds = KINDS(COUNT) },
};

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- memory ---- */

/* Where each part of the form begins, and each part of the memory. */
struct layout {
	uint32_t n_lists, n_rules, n_conds, n_wides, n_ranges, learns;
	size_t lists, rules, conds, wides, ranges, end;
	size_t to_keys, to_lists, to_ranges, to_conds, to_rules, to_wides, size;
};

static bool lay_out(struct layout *l, const uint8_t *bytes, size_t len)
{
	if (len < DP_FILTER_HEAD_LEN || len > DP_FILTER_MAX_LEN ||
	    le32(bytes) != DP_FILTER_MAGIC || le32(bytes + 4) != len)
		return false;
	l->n_lists = le32(bytes + 8);
	l->n_rules = le32(bytes + 12);
	l->n_conds = le32(bytes + 16);
	l->n_wides = le32(bytes + 20);
	l->n_ranges = le32(bytes + 24);
	l->learns = le32(bytes + 28);
	if (l->n_lists < DP_N_FIXED_LISTS || l->n_lists > DP_FILTER_MAX_LISTS ||
	    l->n_rules > DP_FILTER_MAX_RULES || l->n_conds > DP_FILTER_MAX_CONDS ||
	    l->n_wides > DP_FILTER_MAX_WIDES || l->n_ranges > DP_FILTER_MAX_RANGES ||
	    l->learns > DP_LEARNS_ALL)
		return false;
	l->lists = DP_FILTER_HEAD_LEN;
	l->rules = l->lists + (size_t)l->n_lists * DP_FILTER_LIST_LEN;
	l->conds = l->rules + (size_t)l->n_rules * DP_FILTER_RULE_LEN;
	l->wides = l->conds + (size_t)l->n_conds * DP_FILTER_COND_LEN;
	l->ranges = l->wides + (size_t)l->n_wides * DP_FILTER_WIDE_LEN;
	l->end = l->ranges + (size_t)l->n_ranges * DP_FILTER_RANGE_LEN;
	/* What needs the widest alignment stands first. */
	l->to_keys = (sizeof(struct dp_filter) + 7) & ~(size_t)7;
	l->to_lists = l->to_keys + (size_t)l->n_rules * sizeof(uint64_t);
	l->to_conds = l->to_lists + (size_t)l->n_lists * sizeof(struct dp_filter_list);
	l->to_rules = l->to_conds + (size_t)l->n_conds * sizeof(struct dp_filter_cond);
	l->to_ranges = l->to_rules + (size_t)l->n_rules * sizeof(struct dp_filter_rule);
	l->to_wides = l->to_ranges + (size_t)l->n_ranges * sizeof(struct dp_filter_range);
	l->size = l->to_wides + (size_t)l->n_wides * DP_FILTER_WIDE_LEN;
	return l->end == len;
}

_Static_assert(sizeof(struct dp_filter_list) % 8 == 0, "conditions stand behind lists");
_Static_assert(sizeof(struct dp_filter_cond) == 16, "four to a cache line");

size_t dp_filter_size(const uint8_t *bytes, size_t len)
{
	struct layout layout;

	return lay_out(&layout, bytes, len) ? layout.size : 0;
}

/* ---- parts ---- */

static bool read_ranges(struct dp_filter *filter, const uint8_t *from)
{
	for (uint32_t i = 0; i < filter->n_ranges; i++) {
		struct dp_filter_range *range = &filter->ranges[i];

		memcpy(range->lowest, from, 16);
		memcpy(range->highest, from + 16, 16);
		from += DP_FILTER_RANGE_LEN;
		if (memcmp(range->lowest, range->highest, 16) > 0)
			return false;
		range->disorder = i ? filter->ranges[i - 1].disorder : 0;
		range->disorder += i && memcmp(filter->ranges[i - 1].highest, range->lowest, 16) >= 0;
	}
	return true;
}

static bool cond_fits(const struct dp_filter *filter, const struct dp_filter_cond *cond)
{
	if (cond->field >= DP_N_FIELDS || cond->kind >= DP_N_COND_KINDS || cond->negated > 1 ||
	    cond->zero || !(fields[cond->field].kinds & (1u << cond->kind)))
		return false;
	switch (cond->kind) {
	case DP_COND_MASKED:
	case DP_COND_BETWEEN:
		return cond->a < filter->n_wides && cond->b < filter->n_wides;
	case DP_COND_SET:
		if (cond->a > filter->n_ranges || cond->b > filter->n_ranges - cond->a)
			return false;
		return cond->b == 0 || filter->ranges[cond->a].disorder ==
					       filter->ranges[cond->a + cond->b - 1].disorder;
	case DP_COND_COUNT:
		return cond->a < DP_MAX_COUNTS;
	case DP_COND_PAIR:
		return cond->a <= 0xffff && cond->b <= 0xffff;
	default:
		return true;
	}
}

static bool read_conds(struct dp_filter *filter, const uint8_t *from)
{
	for (uint32_t i = 0; i < filter->n_conds; i++) {
		struct dp_filter_cond *cond = &filter->conds[i];

		cond->field = from[0];
		cond->negated = from[1];
		cond->kind = from[2];
		cond->zero = from[3];
		cond->a = le32(from + 4);
		cond->b = le32(from + 8);
		cond->c = le32(from + 12);
		from += DP_FILTER_COND_LEN;
		if (!cond_fits(filter, cond))
			return false;
	}
	return true;
}

static bool read_rules(struct dp_filter *filter, const uint8_t *from)
{
	for (uint32_t i = 0; i < filter->n_rules; i++) {
		struct dp_filter_rule *rule = &filter->rules[i];

		rule->action = from[0];
		rule->n_conds = from[1];
		rule->target = (uint16_t)(from[2] | from[3] << 8);
		rule->first_cond = le32(from + 4);
		rule->origin = le32(from + 8);
		from += DP_FILTER_RULE_LEN;
		if (rule->action >= DP_N_ACTIONS || rule->first_cond > filter->n_conds ||
		    rule->n_conds > filter->n_conds - rule->first_cond)
			return false;
	}
	return true;
}

/* ---- what a list looks at ---- */

static void look(struct dp_filter_list *list, unsigned int class, size_t at, uint8_t bits)
{
	uint8_t *mask = (uint8_t *)list->mask[class];

	mask[at] |= bits;
}

static void look_at(const struct dp_filter *filter, struct dp_filter_list *list,
		    const struct dp_filter_cond *cond)
{
	const struct field *field = &fields[cond->field];

	for (unsigned int class = 0; class < DP_N_CLASSES; class ++) {
		size_t at = field->at[class];

		if (!at && cond->field != DP_FIELD_ETH_DST)
			continue;
		for (size_t i = 0; i < field->len; i++) {
			uint8_t bits = 0xff;

			if (cond->kind == DP_COND_MASKED)
				bits = filter->wides[cond->b][i];
			else if (cond->kind == DP_COND_NUMBER)
				bits = (uint8_t)(cond->c >> 8 * (field->len - 1 - i));
			look(list, class, at + i, bits);
		}
	}
	switch (cond->field) {
	case DP_FIELD_ARP_GRATUITOUS:
		for (size_t i = 0; i < 4; i++) {
			look(list, DP_CLASS_ARP, 28 + i, 0xff);
			look(list, DP_CLASS_ARP, 38 + i, 0xff);
		}
		break;
	case DP_FIELD_DSCP:
		look(list, DP_CLASS_IPV4, 15, 0xfc);
		look(list, DP_CLASS_IPV6, 14, 0x0f);
		look(list, DP_CLASS_IPV6, 15, 0xc0);
		break;
	case DP_FIELD_CT:
		list->stateful = true;
		break;
	case DP_FIELD_CONNECTIONS:
		list->stateful = list->fickle = true;
		break;
	case DP_FIELD_TCP_OPTION:
		list->fickle = true;
		break;
	default:
		break;
	}
}

/* ---- lists ---- */

static void sift(uint64_t *keys, size_t root, size_t n)
{
	for (size_t child; (child = 2 * root + 1) < n; root = child) {
		uint64_t key = keys[root];

		if (child + 1 < n && keys[child + 1] > keys[child])
			child++;
		if (key >= keys[child])
			return;
		keys[root] = keys[child];
		keys[child] = key;
	}
}

static void heapsort(uint64_t *keys, size_t n)
{
	for (size_t i = n / 2; i-- > 0;)
		sift(keys, i, n);
	while (n > 1) {
		uint64_t key = keys[--n];

		keys[n] = keys[0];
		keys[0] = key;
		sift(keys, 0, n);
	}
}

enum { KEY_DST = 0, KEY_SRC, KEY_WILD };

/* A rule by its one port, if it has; of those by the destination's stand first. */
static uint64_t key_of(const struct dp_filter *filter, uint32_t id)
{
	const struct dp_filter_rule *rule = &filter->rules[id];
	uint64_t part = KEY_WILD, port = 0;

	for (unsigned int i = 0; i < rule->n_conds; i++) {
		const struct dp_filter_cond *cond = &filter->conds[rule->first_cond + i];

		if ((cond->field != DP_FIELD_DST_PORT && cond->field != DP_FIELD_SRC_PORT) ||
		    cond->negated || cond->a != cond->b || cond->c != 0xffff || cond->a > 0xffff)
			continue;
		if (part == KEY_WILD || cond->field == DP_FIELD_DST_PORT) {
			part = cond->field == DP_FIELD_DST_PORT ? KEY_DST : KEY_SRC;
			port = cond->a;
		}
	}
	return part << 48 | port << 32 | id;
}

static void index_list(struct dp_filter *filter, struct dp_filter_list *list)
{
	uint64_t *keys = filter->keys + list->first;

	list->first_key = list->first;
	list->n_dst = list->n_src = list->n_wild = 0;
	list->indexed = list->n >= MIN_INDEXED;
	if (!list->indexed)
		return;
	for (uint32_t i = 0; i < list->n; i++)
		keys[i] = key_of(filter, list->first + i);
	heapsort(keys, list->n);
	for (uint32_t i = 0; i < list->n; i++) {
		unsigned int part = (unsigned int)(keys[i] >> 48);

		list->n_dst += part == KEY_DST;
		list->n_src += part == KEY_SRC;
		list->n_wild += part == KEY_WILD;
		keys[i] &= 0xffffffffffffull;
	}
}

static bool rules_fit(struct dp_filter *filter, uint32_t id, struct dp_filter_list *list)
{
	for (uint32_t i = 0; i < list->n; i++) {
		const struct dp_filter_rule *rule = &filter->rules[list->first + i];

		if (rule->action == DP_ACT_JUMP &&
		    (id > DP_LIST_L2_IN || rule->target < DP_N_FIXED_LISTS ||
		     rule->target >= filter->n_lists))
			return false;
		for (unsigned int c = 0; c < rule->n_conds; c++)
			look_at(filter, list, &filter->conds[rule->first_cond + c]);
	}
	/* Connections belong to the lists of the network layer. */
	return !list->stateful || (id >= DP_LIST_IPV4_OUT && id < DP_N_FIXED_LISTS);
}

static bool read_lists(struct dp_filter *filter, const uint8_t *from)
{
	uint32_t next = 0;

	for (uint32_t id = 0; id < filter->n_lists; id++) {
		struct dp_filter_list *list = &filter->lists[id];

		memset(list, 0, sizeof(*list));
		list->first = le32(from);
		list->n = le32(from + 4);
		list->sub = id >= DP_N_FIXED_LISTS;
		from += DP_FILTER_LIST_LEN;
		/* Each rule is of one list, so that its keys have their place. */
		if (list->first != next || list->n > filter->n_rules - next)
			return false;
		next += list->n;
		if (!rules_fit(filter, id, list))
			return false;
		/* Whether there are ports depends on it. */
		look(list, DP_CLASS_IPV4, 23, 0xff);
		look(list, DP_CLASS_IPV6, 20, 0xff);
		index_list(filter, list);
	}
	return next == filter->n_rules;
}

/* A list looks at whatever those look at that it jumps to. */
static void look_through(struct dp_filter *filter, unsigned int id)
{
	struct dp_filter_list *list = &filter->lists[id];

	for (uint32_t i = 0; i < list->n; i++) {
		const struct dp_filter_rule *rule = &filter->rules[list->first + i];
		const struct dp_filter_list *to;

		if (rule->action != DP_ACT_JUMP)
			continue;
		to = &filter->lists[rule->target];
		list->fickle |= to->fickle;
		for (unsigned int class = 0; class < DP_N_CLASSES; class ++)
			for (unsigned int word = 0; word < DP_KEY_WORDS; word++)
				list->mask[class][word] |= to->mask[class][word];
	}
}

const struct dp_filter *dp_filter_load(void *memory, const uint8_t *bytes, size_t len)
{
	struct dp_filter *filter = memory;
	uint8_t *base = memory;
	struct layout l;

	if (!lay_out(&l, bytes, len))
		return NULL;
	filter->n_lists = l.n_lists;
	filter->n_rules = l.n_rules;
	filter->n_conds = l.n_conds;
	filter->n_wides = l.n_wides;
	filter->n_ranges = l.n_ranges;
	filter->learns = (uint8_t)l.learns;
	filter->keys = (uint64_t *)(void *)(base + l.to_keys);
	filter->lists = (struct dp_filter_list *)(void *)(base + l.to_lists);
	filter->conds = (struct dp_filter_cond *)(void *)(base + l.to_conds);
	filter->rules = (struct dp_filter_rule *)(void *)(base + l.to_rules);
	filter->ranges = (struct dp_filter_range *)(void *)(base + l.to_ranges);
	filter->wides = (uint8_t(*)[DP_FILTER_WIDE_LEN])(base + l.to_wides);
	memcpy(filter->wides, bytes + l.wides, (size_t)l.n_wides * DP_FILTER_WIDE_LEN);
	if (!read_ranges(filter, bytes + l.ranges) || !read_conds(filter, bytes + l.conds) ||
	    !read_rules(filter, bytes + l.rules) || !read_lists(filter, bytes + l.lists))
		return NULL;
	look_through(filter, DP_LIST_L2_OUT);
	look_through(filter, DP_LIST_L2_IN);
	filter->tracks[0] = filter->lists[DP_LIST_IPV4_OUT].stateful ||
			    filter->lists[DP_LIST_IPV4_IN].stateful;
	filter->tracks[1] = filter->lists[DP_LIST_IPV6_OUT].stateful ||
			    filter->lists[DP_LIST_IPV6_IN].stateful;
	return filter;
}
