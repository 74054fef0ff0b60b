/* SPDX-License-Identifier: MIT */
/* JPEG files out of pixels, by libjpeg, which leaves a failure by longjmp. */
#include <stdio.h> /* jpeglib.h wants it before */
#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>

#include "image/image_encode.h"

enum { FULL_COLOUR_QUALITY = 90 }; /* from here on colours keep all their pixels */

typedef struct jpeg_job {
    struct jpeg_error_mgr errors; /* first: libjpeg hands it back */
    jmp_buf out;
    bool failed;
    unsigned char *data;
    unsigned long size;
} jpeg_job;

static void failed(j_common_ptr c) {
    jpeg_job *job = (jpeg_job *)(void *)c->err;
    job->failed = true;
    longjmp(job->out, 1);
}

static void quiet(j_common_ptr c) {
    (void)c;
}

static void write_rows(struct jpeg_compress_struct *c, const limn_image *image, int quality) {
    size_t stride = (size_t)image->width * (size_t)image->channels;
    c->image_width = (JDIMENSION)image->width;
    c->image_height = (JDIMENSION)image->height;
    c->input_components = image->channels;
    c->in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    c->optimize_coding = TRUE;
    if (quality >= FULL_COLOUR_QUALITY)
        for (int i = 0; i < c->num_components; i++)
            c->comp_info[i].h_samp_factor = c->comp_info[i].v_samp_factor = 1;
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        JSAMPROW row = image->data + c->next_scanline * stride;
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
}

limn_status limn_jpeg_encode(limn_buf *out, const limn_image *image, const limn_file_options *o,
                             limn_err *err) {
    struct jpeg_compress_struct c = {0};
    jpeg_job job = {0};
    c.err = jpeg_std_error(&job.errors);
    job.errors.error_exit = failed;
    job.errors.output_message = quiet;
    if (setjmp(job.out) == 0) {
        jpeg_create_compress(&c);
        jpeg_mem_dest(&c, &job.data, &job.size);
        write_rows(&c, image, o->quality);
        limn_buf_add(out, job.data, job.size);
    }
    jpeg_destroy_compress(&c);
    free(job.data);
    if (!job.failed) return LIMN_OK;
    return limn_fail(err, LIMN_E_IO, "cannot be encoded: error %d of libjpeg", job.errors.msg_code);
}
