/* SPDX-License-Identifier: MIT */
/* The result of limn_draw: finished pictures with their recipes. Internal to pipeline/. */
#ifndef LIMN_PIPELINE_DRAWING_H
#define LIMN_PIPELINE_DRAWING_H

#include "image/image.h"
#include "limn.h"

typedef struct limn_drawn {
    limn_image *image;
    limn_params *params;
    char *text; /* picture text; "" when metadata is off */
} limn_drawn;

struct limn_drawing {
    limn_drawn *items;
    int count;
};

limn_status limn_drawing_new(limn_drawing **out, int count, limn_err *err);

#endif
