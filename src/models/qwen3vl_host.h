/* SPDX-License-Identifier: MIT */
/*
 * What Qwen3-VL needs made on the host around its graphs: sizes, patches, positions, rotary tables
 * (QwenLM qwen-vl-utils; transformers models/qwen2_vl image_processing, models/qwen3_vl,
 * vision_utils.py). Integers are exact, tables are the f32 of the reference. Pure functions, any
 * thread.
 *
 * Merge order, used for everything per patch: block row, block column, row in block, column in
 * block. One token stands for a block of merge x merge patches.
 */
#ifndef LIMN_MODELS_QWEN3VL_HOST_H
#define LIMN_MODELS_QWEN3VL_HOST_H

#include "formats/llm_config.h"

/* ---- sizes ---- */
/* Bounds of height * width (of frames * height * width for a video) after resizing. */
typedef struct limn_pixel_limits {
    int64_t least, most;
} limn_pixel_limits;

/* As checkpoints come: 64 to 16,384 tokens for a picture (preprocessor_config.json), 4 to 12,288
 * for a video (video_preprocessor_config.json). */
extern const limn_pixel_limits limn_vision_image_limits, limn_vision_video_limits;

/*
 * The size a picture is stretched to: multiples of `factor` (patch * merge) near its own, rounded
 * half to even, within the limits as far as they can be kept. E_VALUE: a side below 1, or sides
 * more than 200 times apart.
 */
limn_status limn_vision_fit(int *out_height, int *out_width, int height, int width, int factor,
                            const limn_pixel_limits *limits, limn_err *err);
/* The same for the frames of a video; frames >= 2. `cap_frames`: no frame above 768 tokens, short
 * clips do not fill the whole budget (qwen-vl-utils; transformers from 5.22 on). */
limn_status limn_vision_fit_video(int *out_height, int *out_width, int frames, int height,
                                  int width, int factor, const limn_pixel_limits *limits,
                                  bool cap_frames, limn_err *err);

/* ---- inputs of the tower ---- */
/* patches [rows * cols, 3 * 2 * patch^2] from two RGB frames of rows * patch x cols * patch pixels
 * (the same one twice for a picture), each (v - 127.5) / 127.5, ordered channel, frame, y, x. */
void limn_vision_patchify(float *patches, const uint8_t *first, const uint8_t *second, int rows,
                          int cols, const limn_vision_config *cfg);
/* pos [rows * cols, width]: the learned table stretched to the grid, corners on corners. `table` is
 * pos_embed.weight. E_SHAPE when it is not [side^2, width]. */
limn_status limn_vision_positions(float *pos, const limn_tensor *table, int rows, int cols,
                                  const limn_vision_config *cfg, limn_err *err);
/* cos and sin [rows * cols, head_dim / 2]: first half by row, second by column. E_LIMIT for heads
 * above 1024. */
limn_status limn_vision_rope(float *cosines, float *sines, int rows, int cols,
                             const limn_vision_config *cfg, limn_err *err);

/* ---- positions of the language model ---- */
/* Where `rows * cols` merged tokens of a picture or of one slice of a video stand in a text. */
typedef struct limn_vision_place {
    int64_t at;
    int rows, cols; /* merged */
} limn_vision_place;

/*
 * pos [3, n] = t, h, w of every token of a text of n whose first position is `start`; places in
 * order. A text token advances all three axes; a picture's tokens have (p, p + r, p + c) and take
 * max(rows, cols) positions together. *next = position of the token that follows. E_VALUE when
 * places overlap or leave the text.
 */
limn_status limn_vision_text_positions(int32_t *pos, int64_t n, const limn_vision_place *places,
                                       size_t n_places, int32_t start, int32_t *next,
                                       limn_err *err);

#endif
