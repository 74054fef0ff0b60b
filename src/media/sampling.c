/* SPDX-License-Identifier: MIT */
/* The frame arithmetic of Qwen3-VL's video processor, in double as numpy does it. */
#include <math.h>

#include "media/sampling.h"

int limn_sample_count(int64_t total, double src_fps, double fps, int least, int most) {
    if (total < 1 || !(src_fps > 0) || !(fps > 0)) return 0;
    double n = floor((double)total / src_fps * fps);
    if (n < least) n = least;
    if (n > most) n = most;
    return n > (double)total ? (int)total : (int)n;
}

void limn_sample_indices(int64_t *index, int count, int64_t total) {
    /* numpy.linspace(0, total - 1, count): i * step, the end exactly */
    double step = count > 1 ? (double)(total - 1) / (count - 1) : 0;
    for (int i = 0; i < count; i++) index[i] = (int64_t)rint(i * step);
    if (count > 1) index[count - 1] = total - 1;
}

double limn_sample_slice_time(const int64_t *index, int count, int i, double src_fps) {
    int first = 2 * i, last = first + 1 < count ? first + 1 : first;
    return ((double)index[first] / src_fps + (double)index[last] / src_fps) / 2;
}
