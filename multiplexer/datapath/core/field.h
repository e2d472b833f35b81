/* SPDX-License-Identifier: Apache-2.0 */
/*
 * field.h - What a frame has of a field that a filter may ask for
 *
 * A field that the frame has not is neither what was asked for nor anything else.
 */
#ifndef DP_FIELD_H
#define DP_FIELD_H

#include "filter.h"

/** dp_field_has_ports() - Whether a frame has them: the first fragment alone does */
bool dp_field_has_ports(const struct dp_frame *frame);

/** dp_field_has_tcp() - Whether a frame has a TCP header */
bool dp_field_has_tcp(const struct dp_frame *frame);

/** dp_field_has_tcp_option() - Whether some option's kind is from @first to @last; it has TCP */
bool dp_field_has_tcp_option(const struct dp_frame *frame, uint32_t first, uint32_t last);

/**
 * dp_field_number() - Find the number in a field
 * Return: whether the frame has it
 */
bool dp_field_number(const struct dp_frame *frame, unsigned int field, uint32_t *value);

/**
 * dp_field_address() - Find the @len bytes of an address
 * Return: where they are, or NULL where the frame has none
 */
const uint8_t *dp_field_address(const struct dp_frame *frame, unsigned int field, size_t *len);

#endif
