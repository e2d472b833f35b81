/* SPDX-License-Identifier: Apache-2.0 */
#include "gates.h"

#include <errno.h>
#include <sys/mman.h>

#include "../core/gate.h"
#include "loop.h"

#define ALIGN 64

/* Zeroed memory that costs nothing before it is touched. */
static void *take(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void give_back(struct dp_house *house)
{
	if (house->gate)
		munmap(house->gate, house->len);
	house->gate = NULL;
}

static void forget_next(struct dp_housed *housed)
{
	give_back(&housed->next);
	housed->changes = false;
}

static int build(struct dp_loop *loop, struct dp_housed *housed, const uint8_t *table, size_t len)
{
	size_t gate_len = (dp_gate_size() + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	size_t filter_len = dp_filter_size(table, len);
	const struct dp_filter *filter;
	uint8_t *memory;

	if (!filter_len)
		return -EINVAL;
	memory = take(gate_len + filter_len);
	if (!memory)
		return -ENOMEM;
	housed->next.gate = (struct dp_gate *)(void *)memory;
	housed->next.len = gate_len + filter_len;
	filter = dp_filter_load(memory + gate_len, table, len);
	if (!filter) {
		give_back(&housed->next);
		return -EINVAL;
	}
	if (!housed->flows && (filter->tracks[0] || filter->tracks[1])) {
		housed->flows = take(dp_flows_size());
		if (!housed->flows) {
			give_back(&housed->next);
			return -ENOMEM;
		}
		dp_flows_init(housed->flows, loop->seed);
	}
	dp_gate_init(housed->next.gate, filter, housed->flows);
	return 0;
}

int dp_gates_prepare(struct dp_loop *loop, uint16_t port, const uint8_t *table, size_t len)
{
	struct dp_housed *housed;
	int error;

	if (port >= DP_MAX_PORTS || loop->table->ports[port].kind != DP_PORT_VIF)
		return -EINVAL;
	housed = &loop->gates[port];
	forget_next(housed);
	error = len ? build(loop, housed, table, len) : 0;
	housed->changes = !error;
	return error;
}

void dp_gates_commit(struct dp_loop *loop)
{
	for (unsigned int port = 0; port < DP_MAX_PORTS; port++) {
		struct dp_housed *housed = &loop->gates[port];

		if (!housed->changes)
			continue;
		give_back(&housed->now);
		housed->now = housed->next;
		housed->next.gate = NULL;
		housed->changes = false;
		loop->table->ports[port].gate = housed->now.gate;
		dp_sightings_renew(&loop->sightings, (uint16_t)port);
		if (housed->now.gate && housed->flows) {
			dp_flows_recount(housed->flows);
		} else if (housed->flows) {
			munmap(housed->flows, dp_flows_size());
			housed->flows = NULL;
		}
	}
}

void dp_gates_abandon(struct dp_loop *loop)
{
	for (unsigned int port = 0; port < DP_MAX_PORTS; port++)
		forget_next(&loop->gates[port]);
}

void dp_gates_drop(struct dp_loop *loop, uint16_t port)
{
	struct dp_housed *housed;

	if (port >= DP_MAX_PORTS)
		return;
	housed = &loop->gates[port];
	forget_next(housed);
	give_back(&housed->now);
	loop->table->ports[port].gate = NULL;
	dp_sightings_forget(&loop->sightings, port);
	if (housed->flows)
		munmap(housed->flows, dp_flows_size());
	housed->flows = NULL;
}
