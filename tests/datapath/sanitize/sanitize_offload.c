/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sanitize_offload.c - Hostile frames and metadata through the offload step
 *
 * Frames are well formed before they are changed, so that many get past
 * dp_offload_fits().
 */
#include "segments.h"

#define N_SMALL 1000000
#define N_LARGE 300

static unsigned long n_fit, n_segmented;

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
	if (check_offload(frame, len, hdr)) {
		n_fit++;
		n_segmented += hdr[1] != 0;
	}
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
	printf("%lu fit, %lu segmented\n", n_fit, n_segmented);
	return 0;
}
