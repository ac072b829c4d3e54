/* x86.h: kernels for x86-64 processors with more than SSE4.1. Their translation units are compiled for that
 * processor whatever the rest of the library is built for, and run only where levels.c has found it. Each
 * gives the same bits as its scalar reference; products round after every operation, none is fused. */
#ifndef RQ_X86_H
#define RQ_X86_H
#include "levels.h"

#if defined(__x86_64__) && defined(__SSE4_1__)
#define RQ_HAVE_X86 1

/* Whether a variant has AVX2. */
static inline bool rq_has_avx2(int32_t variant) { return variant == RQ_AVX512 || variant == RQ_AVX2; }

/* The head of a product, an rq_product_kernel. */
#define RQ_PRODUCT(name)                                                                       \
  void rq_##name(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a, \
                 int32_t count, float *y, size_t stride)
#define RQ_DECLARE_PRODUCT(name) RQ_PRODUCT(name);
/* x86_avx512.c: needs AVX-512 F, BW, VL, DQ, VBMI and VNNI. */
RQ_DECLARE_PRODUCT(pi_q3_avx512)
RQ_DECLARE_PRODUCT(pi_q2_avx512)
RQ_DECLARE_PRODUCT(pi_t3_avx512)
RQ_DECLARE_PRODUCT(pi_t2_avx512)
RQ_DECLARE_PRODUCT(ternary_avx512)
/* x86_avx2.c: needs AVX2 and F16C. */
RQ_DECLARE_PRODUCT(pi_q3_avx2)
RQ_DECLARE_PRODUCT(pi_q2_avx2)
RQ_DECLARE_PRODUCT(pi_t3_avx2)
RQ_DECLARE_PRODUCT(pi_t2_avx2)
RQ_DECLARE_PRODUCT(ternary_avx2)
RQ_DECLARE_PRODUCT(pi_x3_avx2)
RQ_DECLARE_PRODUCT(pi_x2_avx2)
RQ_DECLARE_PRODUCT(q8_0_avx2)
/* x86_avx2_floats.c */
RQ_DECLARE_PRODUCT(f32_avx2)
RQ_DECLARE_PRODUCT(f16_avx2)
RQ_DECLARE_PRODUCT(bf16_avx2)
/* x86_avx2_ggml.c */
RQ_DECLARE_PRODUCT(q4_0_avx2)
RQ_DECLARE_PRODUCT(q4_1_avx2)
RQ_DECLARE_PRODUCT(q5_0_avx2)
RQ_DECLARE_PRODUCT(q5_1_avx2)
RQ_DECLARE_PRODUCT(iq4_nl_avx2)
RQ_DECLARE_PRODUCT(mxfp4_avx2)
RQ_DECLARE_PRODUCT(q2_k_avx2)
RQ_DECLARE_PRODUCT(q3_k_avx2)
RQ_DECLARE_PRODUCT(q4_k_avx2)
RQ_DECLARE_PRODUCT(q5_k_avx2)
RQ_DECLARE_PRODUCT(q6_k_avx2)
RQ_DECLARE_PRODUCT(iq4_xs_avx2)

/* Compiles what follows, up to RQ_TARGET_END, for a processor with the named features. */
#define RQ_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define RQ_TARGET_BEGIN(features) \
  RQ_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define RQ_TARGET_END RQ_PRAGMA(clang attribute pop)
#else
#define RQ_TARGET_BEGIN(features) RQ_PRAGMA(GCC push_options) RQ_PRAGMA(GCC target(features))
#define RQ_TARGET_END RQ_PRAGMA(GCC pop_options)
#endif

#else
#define RQ_HAVE_X86 0
#endif
#endif
