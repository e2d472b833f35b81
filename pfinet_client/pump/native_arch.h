/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native_arch.h - What seccomp(2) calls the architecture that this is compiled for
 *
 * NATIVE_ARCH is not defined where that is not known.
 */
#ifndef PFINET_NATIVE_ARCH_H
#define PFINET_NATIVE_ARCH_H

#include <linux/audit.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define NATIVE_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define NATIVE_ARCH AUDIT_ARCH_S390X
#endif

#endif
