/* SPDX-License-Identifier: MIT */
/* The decoding libraries, each opened by the reader that needs it, or by the host of the decoding
 * processes before it forks (base/late.h). Internal to media/. */
#ifndef LIMN_MEDIA_MEDIA_LATE_H
#define LIMN_MEDIA_MEDIA_LATE_H

#include "base/late.h"

extern limn_late limn_late_av, limn_late_pdf, limn_late_fonts;
extern limn_late limn_late_objects; /* image/vips_late.c */

#endif
