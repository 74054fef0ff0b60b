/* SPDX-License-Identifier: MIT */
/* See onednn.h. */
#include "onednn.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <unordered_map>
#include <vector>

#include <dnnl.hpp>

using dnnl::memory;

namespace {

int thread_count = 1;

/* The same clock as machine.c's bench_clock. */
double now() {
    timespec t;
    bool cpu = std::getenv("LIMN_BENCH_CPU_TIME") != nullptr;
    clock_gettime(cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double(t.tv_sec) + 1e-9 * double(t.tv_nsec)) / (cpu ? thread_count : 1);
}

memory make_memory(const memory::desc &desc, const dnnl::engine &engine) {
    memory m(desc, engine);
    std::memset(m.get_data_handle(), 0, desc.get_size());
    return m;
}

double run_median(const dnnl::primitive &p, const std::unordered_map<int, memory> &args,
                  dnnl::stream &stream, double seconds) {
    std::vector<double> samples;
    double all = 0;
    p.execute(stream, args);
    stream.wait();
    while (samples.size() < 200 && (samples.size() < 3 || all < seconds)) {
        double t = now();
        p.execute(stream, args);
        stream.wait();
        samples.push_back(now() - t);
        all += samples.back();
    }
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

memory::data_type input_type(onednn_type t) {
    if (t == ONEDNN_BF16) return memory::data_type::bf16;
    return t == ONEDNN_U8S8 ? memory::data_type::u8 : memory::data_type::f32;
}

memory::data_type weight_type(onednn_type t) {
    return t == ONEDNN_U8S8 ? memory::data_type::s8 : input_type(t);
}

} // namespace

extern "C" void onednn_set_threads(int threads) {
    thread_count = threads;
    /* OpenMP reads it when its first parallel region starts */
    char text[16];
    std::snprintf(text, sizeof text, "%d", threads);
    setenv("OMP_NUM_THREADS", text, 1);
}

extern "C" double onednn_matmul(int m, int n, int k, onednn_type t, double seconds) {
    try {
        dnnl::engine engine(dnnl::engine::kind::cpu, 0);
        dnnl::stream stream(engine);
        memory::desc a({m, k}, input_type(t), memory::format_tag::ab);
        memory::desc b({k, n}, weight_type(t), memory::format_tag::any);
        memory::desc c({m, n}, memory::data_type::f32, memory::format_tag::ab);
        dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, b, c), engine);
        std::unordered_map<int, memory> args = {
            {DNNL_ARG_SRC, make_memory(a, engine)},
            {DNNL_ARG_WEIGHTS, make_memory(pd.weights_desc(), engine)},
            {DNNL_ARG_DST, make_memory(c, engine)}};
        return run_median(dnnl::matmul(pd), args, stream, seconds);
    } catch (const dnnl::error &) {
        return -1;
    }
}

extern "C" double onednn_conv(int ic, int oc, int side, int kernel, onednn_type t, int winograd,
                              double seconds) {
    try {
        dnnl::engine engine(dnnl::engine::kind::cpu, 0);
        dnnl::stream stream(engine);
        auto out = t == ONEDNN_BF16 ? memory::data_type::bf16 : memory::data_type::f32;
        auto any = memory::format_tag::any;
        int pad = kernel / 2;
        memory::desc a({1, ic, side, side}, input_type(t), any);
        memory::desc b({oc, ic, kernel, kernel}, weight_type(t), any);
        memory::desc c({1, oc, side, side}, out, any);
        auto algorithm =
            winograd ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct;
        dnnl::convolution_forward::desc d(dnnl::prop_kind::forward_inference, algorithm, a, b, c,
                                          {1, 1}, {pad, pad}, {pad, pad});
        dnnl::convolution_forward::primitive_desc pd(d, engine);
        std::unordered_map<int, memory> args = {
            {DNNL_ARG_SRC, make_memory(pd.src_desc(), engine)},
            {DNNL_ARG_WEIGHTS, make_memory(pd.weights_desc(), engine)},
            {DNNL_ARG_DST, make_memory(pd.dst_desc(), engine)}};
        return run_median(dnnl::convolution_forward(pd), args, stream, seconds);
    } catch (const dnnl::error &) {
        return -1;
    }
}
