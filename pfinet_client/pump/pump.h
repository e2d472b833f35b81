/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump.h - Frames between a tap and a vif, by a data stream or by rings
 *
 * The tap gives and takes one frame per system call, the stream any number of
 * them, each behind its length (pfinet_wire.h), and rings without any
 * (pfinet_ring.h).  A frame that the tap gives, with its virtio_net_hdr where that
 * was negotiated, is read to where its record belongs in the next batch, or in the
 * ring, and one for the tap is written from where it stands in the ring, so a byte
 * is copied by nobody but the kernel.
 *
 * What must stay true:
 * - One side that does not take costs the other nothing: while the stream, or ring,
 *   is full the tap is not read, so the kernel's own queue fills and drops; while
 *   the tap is full nothing is read for it, so the daemon's queue, or ring, does.
 * - It sleeps whenever there is nothing that it could do, and kicks a
 *   daemon that does.
 * - It does not trust the daemon's lengths: a record is at least an Ethernet
 *   header and at most PFINET_MAX_FRAME, or the pump ends.
 */
#ifndef PFINET_PUMP_H
#define PFINET_PUMP_H

#include <stddef.h>
#include <stdint.h>

enum pfinet_pump_end {
	PFINET_PUMP_STOPPED = 0,	/* the stop descriptor became readable */
	PFINET_PUMP_STREAM_CLOSED,	/* by the daemon */
	PFINET_PUMP_BAD_LENGTH,		/* from the daemon; see bad_length */
	PFINET_PUMP_TAP_GONE,		/* the interface was deleted */
	PFINET_PUMP_BAD_RING,		/* indices or lengths of the daemon's have no meaning */
};

struct pfinet_pump_report {
	uint64_t out_frames;	/* tap to stream */
	uint64_t out_bytes;	/* of frames, without length and virtio_net_hdr */
	uint64_t out_batches;	/* reads of the tap until it was empty or the batch full */
	uint64_t in_frames;	/* stream to tap */
	uint64_t in_bytes;
	uint64_t in_batches;	/* reads of the stream, or visits to the ring */
	uint64_t in_refused;	/* frames that the tap would not take: it is down, out of memory */
	uint64_t longest_bytes;	/* either way: above MTU + 14 only with segmentation offload */
	uint32_t bad_length;	/* the length that ended it */
};

/**
 * pfinet_pump_run() - Carry frames both ways until one end ends
 * @tap:	O_NONBLOCK, IFF_TAP | IFF_NO_PI, with IFF_VNET_HDR if @vnet_len
 * @stream:	Connected SOCK_STREAM; its O_NONBLOCK does not matter
 * @stop:	Readable when the pump shall end; what the tap then holds is
 *		still sent, as far as the stream takes it at once
 * @vnet_len:	Bytes of virtio_net_hdr before each frame: 0 or PFINET_VNET_LEN
 * @report:	Zeroed by the caller; kept up to date while it runs
 *
 * Allocates two buffers of about 1 MiB when it starts, nothing later.
 *
 * Return: an enum pfinet_pump_end, or a negative errno
 */
int pfinet_pump_run(int tap, int stream, int stop, size_t vnet_len,
		    struct pfinet_pump_report *report);

/**
 * pfinet_pump_run_rings() - Carry frames both ways by rings until one end ends
 * @kicks:	Connected SOCK_STREAM that came with the memory
 * @memory:	Of the rings
 *
 * The other arguments, and what is returned, are as for pfinet_pump_run(); the kicks are
 * nobody else's to read.  Maps the memory when it starts, and allocates nothing.
 */
int pfinet_pump_run_rings(int tap, int kicks, int memory, int stop, size_t vnet_len,
			  struct pfinet_pump_report *report);

#endif
