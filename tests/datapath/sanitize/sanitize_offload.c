/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sanitize_offload.c - Hostile frames and metadata through the offload step
 *
 * Frames are well formed before they are changed, so that many get past
 * dp_offload_fits().  What can be said of a result without a reference is
 * checked too.
 */
#include "fuzz.h"
#include "offload.h"

#define N_SMALL 1000000
#define N_LARGE 300

static unsigned long n_fit, n_segmented, n_written;

/* Write a well-formed TCP or UDP frame of @len bytes; @len has room for all headers. */
static size_t build(uint8_t *frame, size_t len, bool ipv6, bool udp, size_t *l4)
{
	uint8_t *ip = frame + DP_ETH_LEN;
	size_t at = DP_ETH_LEN + 20;

	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)next_random();
	dp_put16(frame + 12, ipv6 ? DP_ETHERTYPE_IPV6 : DP_ETHERTYPE_IPV4);
	if (ipv6) {
		size_t n_ext = below(3);

		at = DP_ETH_LEN + 40;
		ip[0] = 0x60;
		dp_put16(ip + 4, (uint16_t)(len - at));
		ip[6] = n_ext ? 60 : udp ? 17 : 6;
		for (size_t i = 0; i < n_ext; i++) {
			frame[at] = i + 1 < n_ext ? 60 : udp ? 17 : 6;
			frame[at + 1] = 0;
			at += 8;
		}
	} else {
		size_t ihl = 20 + 4 * below(3);

		ip[0] = (uint8_t)(0x40 | ihl / 4);
		dp_put16(ip + 2, (uint16_t)(len - DP_ETH_LEN));
		dp_put16(ip + 6, 0x4000);
		ip[9] = udp ? 17 : 6;
		memset(ip + 20, 1, ihl - 20);
		at = DP_ETH_LEN + ihl;
	}
	if (!udp)
		frame[at + 12] = (uint8_t)((5 + below(11)) << 4);
	*l4 = at;
	return udp ? 6 : 16;
}

/* Fill a virtio_net_hdr that may fit. */
static void build_header(uint8_t *hdr, bool ipv6, bool udp, size_t l4, size_t csum_offset)
{
	memset(hdr, 0, DP_VNET_LEN);
	hdr[0] = (uint8_t)below(3);
	if (!udp && below(4)) {
		hdr[0] = 1;
		hdr[1] = (uint8_t)((ipv6 ? 4 : 1) | (below(2) ? 0x80 : 0));
	}
	hdr[4] = (uint8_t)(8 + below(248));
	hdr[5] = (uint8_t)(below(3) ? 0 : next_random());
	hdr[6] = (uint8_t)l4;
	hdr[7] = (uint8_t)(l4 >> 8);
	hdr[8] = (uint8_t)csum_offset;
}

static void segment_all(const struct dp_frame *frame)
{
	size_t n = dp_offload_segments(frame);
	size_t longest = dp_offload_segment_len(frame);
	size_t payload = 0, headers = 0, largest = 0;

	REQUIRE(n >= 1 && n <= DP_MAX_FRAME / DP_MIN_GSO_SIZE);
	REQUIRE(longest <= frame->len);
	if (frame->meta.gso != DP_GSO_NONE) {
		headers = frame->l4_off + (size_t)(frame->data[frame->l4_off + 12] >> 4) * 4;
		n_segmented++;
	}
	for (size_t i = 0; i < n; i++) {
		uint8_t *out = allocate(longest);
		size_t written = dp_offload_segment(frame, i, out);
		struct dp_frame view = {0};

		REQUIRE(written <= longest);
		REQUIRE(dp_frame_parse(&view, out, written) == 0);
		REQUIRE(view.malformed == frame->malformed && view.l4_off == frame->l4_off);
		payload += written - headers;
		largest = written > largest ? written : largest;
		n_written++;
		free(out);
	}
	REQUIRE(largest == longest);
	if (frame->meta.gso != DP_GSO_NONE)
		REQUIRE(payload == frame->l3_end - headers);
}

static void try_frame(const uint8_t *bytes, size_t len, const uint8_t *header)
{
	uint8_t *data = copy_of(bytes, len);
	uint8_t *hdr = copy_of(header, DP_VNET_LEN);
	struct dp_frame frame = {0};
	struct dp_meta again = {0};

	if (dp_offload_decode(&frame.meta, hdr, DP_OFFLOAD_ALL) == 0 &&
	    dp_frame_parse(&frame, data, len) == 0 && dp_offload_fits(&frame)) {
		uint32_t needs = dp_offload_needs(&frame);

		n_fit++;
		dp_offload_encode(hdr, &frame);
		REQUIRE(dp_offload_decode(&again, hdr, needs | DP_OFFLOAD_CSUM) == 0);
		REQUIRE(again.csum == frame.meta.csum);
		segment_all(&frame);
	}
	free(hdr);
	free(data);
}

static void try_one(size_t max_len, size_t n_changes)
{
	bool ipv6 = below(2), udp = below(4) == 0;
	size_t len = 160 + below(max_len - 160);
	uint8_t *frame = allocate(len);
	uint8_t hdr[DP_VNET_LEN];
	size_t l4, csum_offset;

	csum_offset = build(frame, len, ipv6, udp, &l4);
	build_header(hdr, ipv6, udp, l4, csum_offset);
	mutate(frame, len, below(n_changes + 1));
	if (below(4) == 0)
		mutate(hdr, sizeof(hdr), 1 + below(3));
	if (below(4) == 0)
		len = below(len + 1);
	try_frame(frame, len, hdr);
	free(frame);
}

int main(void)
{
	for (unsigned long i = 0; i < N_SMALL; i++)
		try_one(400, 4);
	for (unsigned long i = 0; i < N_LARGE; i++)
		try_one(DP_ETH_LEN + 65535, 2);
	/* A run that hardly ever got past the checks would prove nothing. */
	REQUIRE(n_fit > N_SMALL / 10 && n_segmented > N_SMALL / 20);
	printf("%lu fit, %lu segmented, %lu frames written\n", n_fit, n_segmented, n_written);
	return 0;
}
