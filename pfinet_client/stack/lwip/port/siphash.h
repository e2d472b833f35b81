/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PFINET_SIPHASH_H
#define PFINET_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/**
 * pl_siphash() - SipHash-2-4 of @len bytes, with 64 bits of result
 *
 * J.-P. Aumasson, D. J. Bernstein: SipHash, a fast short-input PRF (2012).  Who
 * does not have the key cannot tell results from random ones.
 */
uint64_t pl_siphash(const uint8_t key[16], const uint8_t *data, size_t len);

#endif
