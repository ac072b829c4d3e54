/* attention_avx2.h: loops of attention for processors with AVX2 and F16C; see attention.c for what they
 * compute. */
#ifndef RQ_MODEL_ATTENTION_AVX2_H
#define RQ_MODEL_ATTENTION_AVX2_H
#include "../formats/x86.h"

#if RQ_HAVE_X86
void rq_widen_avx2(const uint16_t *in, float *out, size_t count /* a multiple of 8 */);
void rq_dot_four_avx2(const float *a, const float *rows /* (4, n) */, int32_t n, float scale, float *out);
void rq_add_values_avx2(float *total, const float *rows /* (keys, width) */, const float *p, int32_t keys,
                        int32_t width);
#endif
#endif
