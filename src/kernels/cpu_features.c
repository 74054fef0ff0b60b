/* SPDX-License-Identifier: MIT */
/* Names of CPU flags and levels; detection itself is x86/x86_init.c. */
#include "kernels/cpu_features.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kernels/kernels.h"

static const struct {
    const char *text;
    unsigned flag;
} flag_names[] = {
#define X(id, bit, text, what) {text, LIMN_CPU_##id},
    LIMN_CPU_FLAG_LIST(X)
#undef X
};

enum { FLAG_COUNT = sizeof flag_names / sizeof *flag_names };

unsigned limn_cpu_detect(void) {
#if defined(__x86_64__)
    return limn_cpu_detect_x86();
#else
    return 0;
#endif
}

limn_status limn_cpu_mask_parse(unsigned *mask, const char *text, limn_err *err) {
    *mask = 0;
    if (strcasecmp(text, "native") == 0) {
        *mask = ~0u;
        return LIMN_OK;
    }
    if (strcasecmp(text, "c") == 0) return LIMN_OK;
    for (int i = 0; i < FLAG_COUNT; i++) { /* the list is in the order of the ladder */
        *mask |= flag_names[i].flag;
        if (strcasecmp(text, flag_names[i].text) == 0) return LIMN_OK;
    }
    *mask = 0;
    return limn_fail(err, LIMN_E_VALUE,
                     "cpu mask \"%s\": use c, avx2, avx512, vnni, avx512bf16 or native", text);
}

const char *limn_cpu_describe(unsigned flags, char *buf, size_t size) {
    size_t len = 0;
    if (size == 0) return buf;
    buf[0] = 0;
    for (int i = 0; i < FLAG_COUNT; i++) {
        if (!(flags & flag_names[i].flag)) continue;
        int n = snprintf(buf + len, size - len, "%s%s", len ? " " : "", flag_names[i].text);
        if (n < 0 || (size_t)n >= size - len) return buf;
        len += (size_t)n;
    }
    if (len == 0) snprintf(buf, size, "c");
    return buf;
}
