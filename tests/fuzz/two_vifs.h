/* SPDX-License-Identifier: Apache-2.0 */
/*
 * two_vifs.h - A loop whose table has two vifs of one network, and what stops it
 */
#ifndef TWO_VIFS_H
#define TWO_VIFS_H

#include <sys/socket.h>

#include "io/loop.h"
#include "verdicts.h"

/* What dp_loop_run() returns when a byte was written to stop[1]. */
#define STOP 1

static inline struct dp_loop *loop_of_two_vifs(int stop[2])
{
	struct dp_loop *loop = dp_loop_new(1);
	struct dp_table *table;
	uint8_t row[DP_VIF_ROW_LEN];

	REQUIRE(loop && socketpair(AF_UNIX, SOCK_STREAM, 0, stop) == 0);
	REQUIRE(dp_loop_watch(loop, stop[0], STOP) == 0);
	table = dp_loop_table(loop);
	make_networks(table);
	for (size_t n = 0; n < 2; n++) {
		vif_row(row, n);
		REQUIRE(dp_table_set_vif(table, (uint16_t)(FIRST_VIF + n), row, sizeof(row)) == 0);
	}
	return loop;
}

#endif
