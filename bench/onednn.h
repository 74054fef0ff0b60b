/* SPDX-License-Identifier: MIT */
/* The same shapes in oneDNN, for comparison; only in builds that found it. Weights in oneDNN's own
 * packed order, as its users would have it. Median seconds, or a negative number when it has no
 * such kernel on this machine. */
#ifndef LIMN_BENCH_ONEDNN_H
#define LIMN_BENCH_ONEDNN_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum onednn_type { ONEDNN_F32, ONEDNN_BF16, ONEDNN_U8S8 } onednn_type;

void onednn_set_threads(int threads);
double onednn_matmul(int m, int n, int k, onednn_type t, double seconds);
/* Square image, odd square kernel, stride 1, same size out. */
double onednn_conv(int ic, int oc, int side, int kernel, onednn_type t, int winograd,
                   double seconds);

#ifdef __cplusplus
}
#endif

#endif
