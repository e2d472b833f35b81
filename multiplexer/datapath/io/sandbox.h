/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - What the engine may still ask of the kernel
 */
#ifndef DP_SANDBOX_H
#define DP_SANDBOX_H

/**
 * dp_sandbox_enter() - Give up, for good, every system call the loop does not need
 *
 * To be called once set-up is done and all modules are imported.  All threads
 * are bound by it.  After a failure the caller must exit.
 *
 * Return: 0, or a negative errno
 */
int dp_sandbox_enter(void);

#endif
