/* SPDX-License-Identifier: MIT */
/*
 * The intrinsics of every x86 kernel file come through here, so that the same source can also be
 * compiled against SIMDe (tests only): a machine without AVX-512 then still runs the AVX-512
 * kernels, in emulation, through the full test matrix. LIMN_ISA_FN(name) gives the filler functions
 * (the only external symbols of such a file) another name in that build.
 */
#ifndef LIMN_KERNELS_X86_INTRIN_H
#define LIMN_KERNELS_X86_INTRIN_H

/* Before a loop of constant length whose counter must vanish, since it indexes registers. */
#ifdef __clang__
#define LIMN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define LIMN_UNROLL _Pragma("GCC unroll 16")
#endif

/* Emulated, or with sanitizers, whose checks the compiler must carry through every copy of a loop,
 * the widest tiles keep their loops: seconds to compile instead of many minutes. The same
 * statements are executed, so nothing goes unchecked. */
#if defined(LIMN_SIMDE) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMN_ROLLED
#endif

#ifdef LIMN_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#include "kernels/x86/simde_fill.h"
#pragma GCC diagnostic pop
#define LIMN_ISA_FN(name) name##_simde
#else
#include <immintrin.h>
#define LIMN_ISA_FN(name) name
#endif

#endif
