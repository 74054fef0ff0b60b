/* SPDX-License-Identifier: MIT */
/*
 * The inside of a limn_cancel: one lock-free flag, so that setting it is safe in a signal handler.
 * Compute code polls the flag itself through `const atomic_bool *`.
 */
#ifndef LIMN_BASE_CANCEL_H
#define LIMN_BASE_CANCEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "limn.h"

struct limn_cancel {
    atomic_bool flag;
};

/* The flag to poll; NULL when there is none. */
static inline const atomic_bool *limn_cancel_flag(const limn_cancel *cancel) {
    return cancel ? &cancel->flag : NULL;
}

#endif
