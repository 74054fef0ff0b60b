/* SPDX-License-Identifier: MIT */
/* Opening libraries when they are first needed; see late.h. */
#include "base/late.h"

#include <dlfcn.h>

enum { UNTRIED, OPEN, FAILED, LIBRARIES_MAX = 8 };

void limn_late_trap(void) {
    __builtin_trap();
}

/* The loader's words begin with the name of the file. */
static limn_status not_there(limn_late *l) {
    const char *why = dlerror();
    return limn_fail(&l->why, LIMN_E_UNAVAILABLE, "%s need a library of this machine: %s", l->what,
                     why ? why : "it cannot be opened");
}

/* Slots are filled only when all functions are there. */
static limn_status open_all(limn_late *l) {
    void *handles[LIBRARIES_MAX];
    int n = 0;
    for (; l->files && l->files[n] && n < LIBRARIES_MAX; n++) {
        handles[n] = dlopen(l->files[n], RTLD_LAZY | RTLD_LOCAL);
        if (!handles[n]) return not_there(l);
    }
    for (int pass = 0; pass < 2; pass++)
        for (const limn_late_call *c = l->calls; c->name; c++) {
            void *f = NULL;
            for (int i = 0; i < n && !f; i++) f = dlsym(handles[i], c->name);
            if (!f) return not_there(l);
            if (pass == 1) *c->slot = f;
        }
    return LIMN_OK;
}

limn_status limn_late_open(limn_late *l, limn_err *err) {
    if (atomic_load_explicit(&l->state, memory_order_acquire) == OPEN) return LIMN_OK;
    pthread_mutex_lock(&l->lock);
    int state = atomic_load(&l->state);
    if (state == UNTRIED) {
        state = open_all(l) == LIMN_OK ? OPEN : FAILED;
        atomic_store_explicit(&l->state, state, memory_order_release);
    }
    pthread_mutex_unlock(&l->lock);
    if (state == OPEN) return LIMN_OK;
    if (err) *err = l->why;
    return l->why.status;
}
