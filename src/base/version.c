/* SPDX-License-Identifier: MIT */
/* The version that the build file states. */
#include "limn.h"

const char *limn_version(void) {
    return LIMN_VERSION;
}
