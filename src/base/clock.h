/* SPDX-License-Identifier: MIT */
/* Clocks: monotonic seconds for measuring, wall-clock milliseconds for records. Any thread. */
#ifndef LIMN_BASE_CLOCK_H
#define LIMN_BASE_CLOCK_H

#include <stdint.h>

double limn_clock_now(void);      /* seconds, monotonic, arbitrary origin */
int64_t limn_clock_unix_ms(void); /* milliseconds since 1970-01-01 UTC */

#endif
