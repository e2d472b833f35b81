/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_offload.c - A virtio_net_hdr and a frame through decoding and segmentation
 *
 * Input: the header, and the frame.
 */
#include "segments.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
	if (len < DP_VNET_LEN)
		return -1;
	check_offload(input + DP_VNET_LEN, len - DP_VNET_LEN, input);
	return 0;
}
