/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cc.h - What lwIP asks of a compiler and a C library: ours have it all
 */
#ifndef PFINET_LWIP_CC_H
#define PFINET_LWIP_CC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define LWIP_ERRNO_STDINCLUDE 1

/* What must not be is the end: nobody knows what memory holds then. */
#define LWIP_PLATFORM_ASSERT(what) \
	do { \
		fprintf(stderr, "lwip: %s, at %s:%d\n", what, __FILE__, __LINE__); \
		abort(); \
	} while (0)
#define LWIP_PLATFORM_DIAG(message) do { } while (0)

uint32_t pl_random(void);
#define LWIP_RAND() pl_random()

#endif
