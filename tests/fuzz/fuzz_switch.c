/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_switch.c - Frames and their metadata through parsing, ingress and forwarding
 *
 * Input: who sends (a station; from N_VIFS on, one on the wire), the metadata, and
 * the frame.  The table has vifs of both families, a hub and a switch.
 */
#include "verdicts.h"

/* from; vlan, csum, gso, ecn; csum_start, csum_offset, gso_size, little-endian */
#define HEAD_LEN 11

static size_t get_le16(const uint8_t *p)
{
	return (size_t)(p[0] | p[1] << 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
	static struct dp_table *table;
	static uint64_t now_ns = 1;
	struct dp_decision decision;
	struct dp_frame frame;
	size_t from;
	uint16_t port;
	uint8_t *data;

	if (!table)
		table = make_table();
	if (len < HEAD_LEN)
		return -1;
	from = input[0] % (N_VIFS + 2);
	port = from >= N_VIFS ? UPLINK : (uint16_t)(FIRST_VIF + from);
	/* What the core leaves unset must not be read: no bool has this value. */
	memset(&frame, 0xa5, sizeof(frame));
	memset(&decision, 0xa5, sizeof(decision));
	memset(&frame.meta, 0, sizeof(frame.meta));
	frame.meta.vlan = input[1] & 1;
	frame.meta.csum = input[2] % 3;
	frame.meta.gso = input[3];
	frame.meta.ecn = input[4] & 1;
	frame.meta.csum_start = (uint16_t)get_le16(input + 5);
	frame.meta.csum_offset = (uint16_t)get_le16(input + 7);
	frame.meta.gso_size = (uint16_t)get_le16(input + 9);
	len -= HEAD_LEN;
	data = copy_of(input + HEAD_LEN, len);
	/* No limit is ever reached, so that one input has one outcome. */
	now_ns += 1000000000;
	if (port == UPLINK)
		dp_forward_from_uplink(table, port, &frame, data, len, &decision);
	else
		dp_forward_from_vif(table, port, &frame, data, len, now_ns, &decision);
	check_decision(table, &frame, data, len, &decision, from, port);
	if (decision.verdict == DP_PASS && decision.claims) {
		/* What was claimed is forgotten. */
		dp_table_set_up(table, port, false);
		dp_table_set_up(table, port, true);
	}
	free(data);
	return 0;
}
