/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.h - The rules of one vif's filter, as the datapath walks them
 *
 * multiplexer.policy.nwfilter compiles a filter to lists of rules, each rule to an
 * action and conditions that must all hold, each condition to a field of the frame and
 * what it is compared with.  dp_filter_load() reads that form, refuses whatever does
 * not fit together, and lays the rules out for the walk; from then on nothing of it
 * changes, and nothing is checked again.
 *
 * Six lists are there always: of the link layer, of IPv4 and of IPv6, each for frames
 * from the vif (out) and to it (in).  Only the two first may jump, to a list behind
 * the six that jumps no further; so no walk is longer than the rules that there are.
 *
 * A list of many rules by port is indexed: a frame meets the rules of its ports and
 * those without one, in their order.  And what a list looks at of a frame is known:
 * the verdict depends on nothing else, so it can be remembered (gate.h).
 *
 * The form is little-endian:
 *
 *	u32 DP_FILTER_MAGIC, u32 bytes in all, u32 lists, rules, conditions, wides, ranges,
 *		u32 DP_LEARNS_*: what it wants to know of its vif (learn.h);
 *	lists:		u32 first rule, u32 rules
 *	rules:		u8 action, u8 conditions, u16 list to jump to, u32 first condition,
 *			u32 origin
 *	conditions:	u8 field, u8 1: negated, u8 kind, u8 zero, u32 a, u32 b, u32 c
 *	wides:		16 bytes
 *	ranges:		16 bytes lowest, 16 bytes highest address of a named set
 *
 * Kinds: DP_COND_NUMBER: a <= (field & c) <= b.  DP_COND_MASKED: all bytes are those of
 * wide a, where wide b has ones.  DP_COND_BETWEEN: from wide a to wide b.
 * DP_COND_PAIR: type and code (field's high and low byte): a has the lowest, b the
 * highest of both, as one 16-bit number each.  DP_COND_SET: in one of b ranges from a
 * on, which are in order and apart.  DP_COND_COUNT: rule a counts more than b connections.
 */
#ifndef DP_FILTER_H
#define DP_FILTER_H

#include "flow.h"
#include "learn.h"

#define DP_FILTER_MAGIC 0x3246574e /* NWF2 */
#define DP_FILTER_HEAD_LEN 32
#define DP_FILTER_LIST_LEN 8
#define DP_FILTER_RULE_LEN 12
#define DP_FILTER_COND_LEN 16
#define DP_FILTER_WIDE_LEN 16
#define DP_FILTER_RANGE_LEN 32

#define DP_FILTER_MAX_LISTS 256
#define DP_FILTER_MAX_RULES 65536
#define DP_FILTER_MAX_CONDS 524288
#define DP_FILTER_MAX_WIDES 65536
#define DP_FILTER_MAX_RANGES 65536
#define DP_FILTER_MAX_LEN (16 * 1024 * 1024)

/* The origin where no rule has decided. */
#define DP_NO_RULE 0xffffffffu

/* The lists that are always there. */
enum dp_filter_list_id {
	DP_LIST_L2_OUT = 0,
	DP_LIST_L2_IN,
	DP_LIST_IPV4_OUT,
	DP_LIST_IPV4_IN,
	DP_LIST_IPV6_OUT,
	DP_LIST_IPV6_IN,
	DP_N_FIXED_LISTS,
};

enum dp_filter_action {
	DP_ACT_CONTINUE = 0,
	DP_ACT_ACCEPT,
	DP_ACT_DROP,
	DP_ACT_REJECT,
	DP_ACT_RETURN,
	DP_ACT_JUMP,
	DP_N_ACTIONS,
};

enum dp_cond_kind {
	DP_COND_NUMBER = 0,
	DP_COND_MASKED,
	DP_COND_BETWEEN,
	DP_COND_PAIR,
	DP_COND_SET,
	DP_COND_COUNT,
	DP_N_COND_KINDS,
};

/* What a condition looks at.  A frame that has no such field does not meet it, negated or not. */
enum dp_filter_field {
	DP_FIELD_ETH_DST = 0,
	DP_FIELD_ETH_SRC,
	DP_FIELD_ETH_TYPE,
	DP_FIELD_VLAN_ID,
	DP_FIELD_VLAN_TYPE,
	DP_FIELD_STP_TYPE,
	DP_FIELD_STP_FLAGS,
	DP_FIELD_STP_ROOT_PRIORITY,
	DP_FIELD_STP_ROOT_ADDR,
	DP_FIELD_STP_ROOT_COST,
	DP_FIELD_STP_SENDER_PRIORITY,
	DP_FIELD_STP_SENDER_ADDR,
	DP_FIELD_STP_PORT,
	DP_FIELD_STP_AGE,
	DP_FIELD_STP_MAX_AGE,
	DP_FIELD_STP_HELLO_TIME,
	DP_FIELD_STP_FORWARD_DELAY,
	DP_FIELD_ARP_HWTYPE,
	DP_FIELD_ARP_PROTOCOL,
	DP_FIELD_ARP_OPCODE,
	DP_FIELD_ARP_SRC_MAC,
	DP_FIELD_ARP_DST_MAC,
	DP_FIELD_ARP_SRC_IP,
	DP_FIELD_ARP_DST_IP,
	DP_FIELD_ARP_GRATUITOUS, /* 1 where sender and target IP are the same */
	DP_FIELD_IPV4_SRC,
	DP_FIELD_IPV4_DST,
	DP_FIELD_IPV6_SRC,
	DP_FIELD_IPV6_DST,
	DP_FIELD_PROTOCOL, /* the upper-layer protocol, behind extension headers */
	DP_FIELD_AH,       /* 1 where IPv6 has an authentication header */
	DP_FIELD_DSCP,
	DP_FIELD_SRC_PORT,
	DP_FIELD_DST_PORT,
	DP_FIELD_ICMP,      /* type and code, of ICMP or ICMPv6 */
	DP_FIELD_TCP_FLAGS, /* the six of RFC 793 */
	DP_FIELD_TCP_OPTION, /* DP_COND_NUMBER: that an option from a to b is there */
	DP_FIELD_CT,         /* DP_CT_BIT(); DP_COND_NUMBER: a has the bits that may be */
	DP_FIELD_CONNECTIONS,
	DP_N_FIELDS,
};

/* Of a state and a direction, 1 for that of replies. */
#define DP_CT_BIT(state, reply) (1u << ((unsigned int)(state) * 2 + (unsigned int)(reply)))
#define DP_CT_ALL ((1u << (2 * DP_N_FLOW_STATES)) - 1)

/* Frames of which all that any condition looks at stands in the same place. */
enum dp_filter_class {
	DP_CLASS_ARP = 0, /* of Ethernet and IPv4 */
	DP_CLASS_IPV4,    /* TCP, UDP, ICMP without options and in one piece */
	DP_CLASS_IPV6,    /* the same, and ICMPv6, without extension headers */
	DP_N_CLASSES,
	DP_CLASS_NONE = DP_N_CLASSES,
};

/* Up to the TCP flags behind an IPv6 header: 8-byte words from the frame's start. */
#define DP_KEY_WORDS 9

struct dp_filter_cond {
	uint8_t field;
	uint8_t negated;
	uint8_t kind;
	uint8_t zero;
	uint32_t a, b, c;
};

struct dp_filter_rule {
	uint8_t action;
	uint8_t n_conds;
	uint16_t target;
	uint32_t first_cond;
	uint32_t origin;
};

struct dp_filter_list {
	uint32_t first, n;
	/* Its rules by port, in the table's order: destination, source, and without. */
	uint32_t first_key, n_dst, n_src, n_wild;
	bool indexed;
	bool stateful; /* some condition is of a connection */
	bool fickle;   /* some condition is of more than the frame's key and its state */
	bool sub;      /* reached by jumps: its end accepts */
	/* Which bits of a frame of a class it looks at, those that it jumps to included. */
	uint64_t mask[DP_N_CLASSES][DP_KEY_WORDS];
};

struct dp_filter_range {
	uint8_t lowest[16], highest[16];
	uint32_t disorder; /* ranges up to this one that do not lie behind the one before */
};

struct dp_filter {
	uint32_t n_lists, n_rules, n_conds, n_wides, n_ranges;
	bool tracks[2]; /* whether IPv4, IPv6 need connections */
	uint8_t learns; /* DP_LEARNS_* */
	struct dp_filter_list *lists;
	struct dp_filter_rule *rules;
	struct dp_filter_cond *conds;
	uint8_t (*wides)[DP_FILTER_WIDE_LEN];
	struct dp_filter_range *ranges;
	uint64_t *keys; /* port << 32 | rule, in order within each part of a list's */
};

/**
 * dp_filter_size() - Bytes of memory that a table takes when loaded
 * @bytes:	The table, from whoever compiled it
 * @len:	Bytes at @bytes
 *
 * Return: the number, or 0 where its head is malformed or @len is not what it says
 */
size_t dp_filter_size(const uint8_t *bytes, size_t len);

/**
 * dp_filter_load() - Read a table, and make it ready to be walked
 * @memory:	dp_filter_size() bytes, aligned for a uint64_t; holds it from here on
 * @bytes:	The table
 * @len:	Bytes at @bytes
 *
 * Time is n log n in the rules.
 *
 * Return: the filter, in @memory, or NULL where anything in it has no meaning
 */
const struct dp_filter *dp_filter_load(void *memory, const uint8_t *bytes, size_t len);

/* What a frame is, while its lists are walked. */
struct dp_walk {
	const struct dp_filter *filter;
	const struct dp_frame *frame;
	const struct dp_flows *flows; /* where the filter tracks */
	struct dp_track *track;       /* what was found in them; NULL for the link layer's lists */
	uint32_t steps;               /* rules that were looked at */
	uint32_t origin;              /* of the rule that decided, or DP_NO_RULE */
	uint8_t list;                 /* where it was decided */
};

/**
 * dp_filter_walk() - Let a list decide over a frame
 * @walk:	@steps, @origin and @list are set
 * @list:	One of the fixed ones
 *
 * Return: DP_ACT_ACCEPT, DP_ACT_DROP or DP_ACT_REJECT; the end of the list accepts
 */
enum dp_filter_action dp_filter_walk(struct dp_walk *walk, unsigned int list);

#endif
