/* SPDX-License-Identifier: MIT */
/*
 * Which frames of a video are looked at, and which times are written beside them, exactly as
 * Qwen3-VL was trained (transformers models/qwen3_vl/video_processing_qwen3_vl.py sample_frames,
 * processing_qwen3_vl.py _calculate_timestamps). Pure functions, any thread.
 */
#ifndef LIMN_MEDIA_SAMPLING_H
#define LIMN_MEDIA_SAMPLING_H

#include <stdint.h>

/* How many of `total` frames (source rate src_fps) are taken at `fps` per second: `least` to
 * `most`, at most total; 0 when total < 1 or a rate is not above 0. */
int limn_sample_count(int64_t total, double src_fps, double fps, int least, int most);
/* index [count] = evenly spread frame numbers in 0..total - 1, rounded half to even. */
void limn_sample_indices(int64_t *index, int count, int64_t total);
/* Mean time in seconds of slice i, frames 2 i and 2 i + 1; an odd last frame is doubled. */
double limn_sample_slice_time(const int64_t *index, int count, int i, double src_fps);

#endif
