/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lwipopts.h - lwIP as this package wants it, where it is built from its source
 *
 * There is no operating system beneath: no thread, no mailbox, no lock of lwIP's
 * own.  The event loop drives it (loop.c).  Memory is the C library's, so what has
 * a number here is bounded by it, and by nothing else.
 */
#ifndef PFINET_LWIPOPTS_H
#define PFINET_LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0

#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define LWIP_STATS 0

/* A way to oneself, through the interface itself. */
#define LWIP_NETIF_LOOPBACK 1
#define LWIP_HAVE_LOOPIF 0

/* A datagram of 64 KiB comes in 45 fragments. */
#define IP_REASS_MAX_PBUFS 256
/* All of a network of up to 22 bits, so that forged sources push nobody out. */
#define ARP_TABLE_SIZE 1024
#define ARP_QUEUEING 1
#define ARP_QUEUE_LEN 10
#define LWIP_NETIF_HWADDRHINT 1
#define LWIP_IGMP 1
#define LWIP_RAW 1

#define LWIP_IPV6 1
#define LWIP_IPV6_NUM_ADDRESSES 6
#define LWIP_IPV6_AUTOCONFIG 1
#define LWIP_IPV6_MLD 1
#define MEMP_NUM_MLD6_GROUP 16
/* What is kept of a fragment does not fit into its header, with pointers of 8 bytes. */
#define IPV6_FRAG_COPYHEADER 1
/* The most that lwIP can count: it does so with 8 bits and a sign.  See neighbors.c. */
#define LWIP_ND6_NUM_NEIGHBORS 127
#define LWIP_ND6_NUM_DESTINATIONS 127

/* An MTU of 9000, less the headers of IPv4 and TCP; less of each is agreed. */
#define TCP_MSS 8960
#define TCP_WND (1024 * 1024)
#define LWIP_WND_SCALE 1
/* The least by which 16 bits can tell of such a window. */
#define TCP_RCV_SCALE 5
#define TCP_SND_BUF TCP_WND
/* Of the shortest segments that fill it, with 536 bytes, two buffers for each. */
#define TCP_SND_QUEUELEN 4096
#define MEMP_NUM_TCP_SEG TCP_SND_QUEUELEN
/* Asked for by a sanity check; what is writable tcp.c says. */
#define TCP_SNDLOWAT 16384
#define LWIP_TCP_TIMESTAMPS 1
#define LWIP_TCP_SACK_OUT 1
#define TCP_OOSEQ_MAX_BYTES TCP_WND
#define TCP_OOSEQ_MAX_PBUFS 2048
#define LWIP_TCP_KEEPALIVE 1
#define SO_REUSE 1

/* Sequence numbers that nobody guesses (RFC 6528); ports port.c draws. */
#define LWIP_HOOK_FILENAME "isn.h"
#define LWIP_HOOK_TCP_ISN pl_isn

#endif
