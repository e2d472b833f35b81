/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segments.h - What must hold of a frame with metadata after the offload step
 *
 * Whatever can be said of a result without a reference is checked.
 */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include "fuzz.h"
#include "offload.h"

static inline void check_all_segments(const struct dp_frame *frame)
{
	size_t n = dp_offload_segments(frame);
	size_t longest = dp_offload_segment_len(frame);
	size_t payload = 0, headers = 0, largest = 0;

	REQUIRE(n >= 1 && n <= DP_MAX_FRAME / DP_MIN_GSO_SIZE);
	REQUIRE(longest <= frame->len);
	if (frame->meta.gso == DP_GSO_UDP)
		headers = frame->l4_off + 8u;
	else if (frame->meta.gso != DP_GSO_NONE)
		headers = frame->l4_off + (size_t)(frame->data[frame->l4_off + 12] >> 4) * 4;
	for (size_t i = 0; i < n; i++) {
		uint8_t *out = allocate(longest);
		size_t written = dp_offload_segment(frame, i, out);
		struct dp_frame view = {0};

		REQUIRE(written <= longest);
		REQUIRE(dp_frame_parse(&view, out, written) == 0);
		REQUIRE(view.malformed == frame->malformed && view.l4_off == frame->l4_off);
		payload += written - headers;
		largest = written > largest ? written : largest;
		free(out);
	}
	REQUIRE(largest == longest);
	if (frame->meta.gso != DP_GSO_NONE)
		REQUIRE(payload == frame->l3_end - headers);
}

/**
 * check_offload() - Take a virtio_net_hdr and a frame through the step
 * Return: whether the header fits the frame
 */
static inline bool check_offload(const uint8_t *bytes, size_t len, const uint8_t *header)
{
	uint8_t *data = copy_of(bytes, len);
	uint8_t *hdr = copy_of(header, DP_VNET_LEN);
	struct dp_frame frame = {0};
	struct dp_meta again = {0};
	bool fits = false;

	if (dp_offload_decode(&frame.meta, hdr, DP_OFFLOAD_ALL) == 0 &&
	    dp_frame_parse(&frame, data, len) == 0 && dp_offload_fits(&frame)) {
		uint32_t needs = dp_offload_needs(&frame);

		fits = true;
		dp_offload_encode(hdr, &frame);
		REQUIRE(dp_offload_decode(&again, hdr, needs | DP_OFFLOAD_CSUM) == 0);
		REQUIRE(again.csum == frame.meta.csum);
		check_all_segments(&frame);
	}
	free(hdr);
	free(data);
	return fits;
}

#endif
