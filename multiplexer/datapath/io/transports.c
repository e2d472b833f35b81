/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "port.h"

static const struct dp_transport *const transports[] = {
	&dp_transport_stream,
	&dp_transport_bess,
	&dp_transport_packet,
	&dp_transport_tap,
	&dp_transport_ring,
};

const struct dp_transport *dp_transport_find(const char *name)
{
	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
		if (strcmp(transports[i]->name, name) == 0)
			return transports[i];
	return NULL;
}
