/* SPDX-License-Identifier: MIT */
/* The stop flag of limn.h; see cancel.h for the inside view. */
#include "base/cancel.h"

#include "base/mem.h"
#include "base/status.h"

limn_status limn_cancel_new(limn_cancel **out, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a stop flag");
}

void limn_cancel_free(limn_cancel **cancel) {
    if (!cancel) return;
    limn_mem_free(*cancel);
    *cancel = NULL;
}

void limn_cancel_set(limn_cancel *cancel) {
    atomic_store(&cancel->flag, true);
}
void limn_cancel_clear(limn_cancel *cancel) {
    atomic_store(&cancel->flag, false);
}
bool limn_cancel_is_set(const limn_cancel *cancel) {
    return atomic_load(&cancel->flag);
}
