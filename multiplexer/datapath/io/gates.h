/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gates.h - Where the filters of vifs live, and how one takes another's place
 *
 * A change of filters may concern many vifs.  For each the new table is read and
 * checked beside the old one, which goes on; only when all are there do they take
 * over, at once, between two frames.  What a vif's connections have come to stays,
 * and is judged by the new rules from then on.
 */
#ifndef DP_IO_GATES_H
#define DP_IO_GATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_loop;
struct dp_gate;
struct dp_flows;

/* Memory of one gate and the filter in it. */
struct dp_house {
	struct dp_gate *gate; /* NULL: there is none */
	size_t len;
};

/* What a port has: the gate in force, the one to come, and its connections. */
struct dp_housed {
	struct dp_house now, next;
	bool changes; /* @next takes the place of @now, also where it is none */
	struct dp_flows *flows;
};

/**
 * dp_gates_prepare() - Get the next filter of a vif ready
 * @port:	A vif
 * @table:	As dp_filter_load() reads it; copied
 * @len:	Bytes at @table; 0: the vif is to have no filter
 *
 * What was prepared for the port before is forgotten.
 *
 * Return: 0, -EINVAL where @port is no vif or the table does not fit together, or -ENOMEM
 */
int dp_gates_prepare(struct dp_loop *loop, uint16_t port, const uint8_t *table, size_t len);

/**
 * dp_gates_commit() - Let all that was prepared take over at once
 */
void dp_gates_commit(struct dp_loop *loop);

/** dp_gates_abandon() - Forget all that was prepared */
void dp_gates_abandon(struct dp_loop *loop);

/** dp_gates_drop() - Forget all of a port, before it is none any more; out of range is ignored */
void dp_gates_drop(struct dp_loop *loop, uint16_t port);

#endif
