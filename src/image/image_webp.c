/* SPDX-License-Identifier: MIT */
/* WebP files out of pixels, by libwebp. */
#include <webp/encode.h>

#include "image/image_encode.h"

static int take(const uint8_t *data, size_t size, const WebPPicture *p) {
    limn_buf *out = p->custom_ptr;
    limn_buf_add(out, data, size);
    return !out->failed;
}

limn_status limn_webp_encode(limn_buf *out, const limn_image *image, const limn_file_options *o,
                             limn_err *err) {
    WebPConfig config;
    WebPPicture p;
    int stride = image->width * image->channels;
    if (!WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, (float)o->quality) || !WebPPictureInit(&p))
        return limn_fail(err, LIMN_E_INTERNAL, "libwebp is another one than limn was built with");
    config.lossless = o->lossless;
    p.use_argb = o->lossless;
    p.width = image->width;
    p.height = image->height;
    p.writer = take;
    p.custom_ptr = out;
    int ok = image->channels == 4 ? WebPPictureImportRGBA(&p, image->data, stride)
                                  : WebPPictureImportRGB(&p, image->data, stride);
    if (ok) ok = WebPEncode(&config, &p);
    int why = p.error_code;
    WebPPictureFree(&p);
    if (ok) return LIMN_OK;
    return limn_fail(err, why == VP8_ENC_ERROR_OUT_OF_MEMORY ? LIMN_E_NOMEM : LIMN_E_IO,
                     "cannot be encoded: error %d of libwebp", why);
}
