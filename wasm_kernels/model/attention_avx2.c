/* attention_avx2.c: the inner loops of attention with AVX2 and F16C: the additions of lanes.h and attention.c
 * in the same order, eight at a time. Only for widths that are multiples of 16. */
#include "attention_avx2.h"

#if RQ_HAVE_X86
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

RQ_TARGET_BEGIN("avx2,f16c")

void rq_widen_avx2(const uint16_t *in, float *out, size_t count) {
  for (size_t i = 0; i < count; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(in + i))));
}

/* Sums l, l + 8 and l + 4 of the 16 lanes. */
INLINE __m128 four_lanes(__m256 low, __m256 high) {
  __m256 eight = _mm256_add_ps(low, high);
  return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
}

void rq_dot_four_avx2(const float *a, const float *rows, int32_t n, float scale, float *out) {
  __m256 sum[4][2];
  for (int32_t r = 0; r < 4; r++) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
  for (int32_t i = 0; i < n; i += 16) {
    __m256 low = _mm256_loadu_ps(a + i), high = _mm256_loadu_ps(a + i + 8);
    for (int32_t r = 0; r < 4; r++) {
      const float *row = rows + (size_t)r * (size_t)n + i;
      sum[r][0] = _mm256_add_ps(sum[r][0], _mm256_mul_ps(low, _mm256_loadu_ps(row)));
      sum[r][1] = _mm256_add_ps(sum[r][1], _mm256_mul_ps(high, _mm256_loadu_ps(row + 8)));
    }
  }
  __m128 l0 = four_lanes(sum[0][0], sum[0][1]), l1 = four_lanes(sum[1][0], sum[1][1]),
         l2 = four_lanes(sum[2][0], sum[2][1]), l3 = four_lanes(sum[3][0], sum[3][1]);
  _MM_TRANSPOSE4_PS(l0, l1, l2, l3);
  __m128 total = _mm_add_ps(_mm_add_ps(l0, l2), _mm_add_ps(l1, l3));
  _mm_storeu_ps(out, _mm_mul_ps(total, _mm_set1_ps(scale)));
}

void rq_add_values_avx2(float *total, const float *rows, const float *p, int32_t keys, int32_t width) {
  int32_t d = 0;
  for (; d + 64 <= width; d += 64) {
    __m256 sum[8];
    for (int32_t v = 0; v < 8; v++) sum[v] = _mm256_setzero_ps();
    for (int32_t j = 0; j < keys; j++) {
      const float *row = rows + (size_t)j * (size_t)width + d;
      __m256 weight = _mm256_set1_ps(p[j]);
      for (int32_t v = 0; v < 8; v++)
        sum[v] = _mm256_add_ps(sum[v], _mm256_mul_ps(weight, _mm256_loadu_ps(row + 8 * v)));
    }
    for (int32_t v = 0; v < 8; v++)
      _mm256_storeu_ps(total + d + 8 * v, _mm256_add_ps(_mm256_loadu_ps(total + d + 8 * v), sum[v]));
  }
  for (; d < width; d += 8) {
    __m256 sum = _mm256_setzero_ps();
    for (int32_t j = 0; j < keys; j++)
      sum = _mm256_add_ps(
          sum, _mm256_mul_ps(_mm256_set1_ps(p[j]), _mm256_loadu_ps(rows + (size_t)j * (size_t)width + d)));
    _mm256_storeu_ps(total + d, _mm256_add_ps(_mm256_loadu_ps(total + d), sum));
  }
}

RQ_TARGET_END

#else
typedef int rq_no_attention_avx2; /* a translation unit must not be empty */
#endif
