/* attention_simd.h: the inner loops of attention in 128-bit vectors: the additions of lanes.h and attention.c
 * in the same order, arranged so that what they sum into stays in 16 registers. */
#ifndef RQ_MODEL_ATTENTION_SIMD_H
#define RQ_MODEL_ATTENTION_SIMD_H
#include "../formats/simd.h"
#include "lanes.h"

#define RQ_INLINE static inline __attribute__((always_inline, unused))

/* ---- f16 ---- */

/* As widen() in attention.c, eight at a time; returns how many are done. */
RQ_INLINE size_t rq_widen_simd(const uint16_t *in, float *out, size_t count) {
  size_t i = 0;
#if RQ_HAVE_SIMD
  const rq_vi zero = rv_zero(), kept = rv_splat32((int32_t)0x8FFFE000u);
  const rq_vf scale = rf_splat(0x1p112f);
  for (; i + 8 <= count; i += 8) {
    rq_vi h = rv_load(in + i);
    rq_vi low = rv_and(rv_sar32(rv_zip_low16(zero, h), 3), kept);
    rq_vi high = rv_and(rv_sar32(rv_zip_high16(zero, h), 3), kept);
    rf_store(out + i, rf_mul(rf_of_bits(low), scale));
    rf_store(out + i + 4, rf_mul(rf_of_bits(high), scale));
  }
#else
  (void)in, (void)out, (void)count;
#endif
  return i;
}

/* ---- scores ---- */

/* Of the 16 lanes of four products, those of vectors v and v + 2, added to one another. */
RQ_INLINE void half_of_four(const float *a, const float *rows, int32_t n, int32_t v, rq_vec_value half[4]) {
  rq_vec_value sum[4][2] = {{{0}}};
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const rq_vec *p = (const rq_vec *)(a + i);
    const rq_vec_value first = p[v], second = p[v + 2];
    for (int32_t r = 0; r < 4; r++) {
      const rq_vec *q = (const rq_vec *)(rows + (size_t)r * (size_t)n + i);
      sum[r][0] = sum[r][0] + first * q[v];
      sum[r][1] = sum[r][1] + second * q[v + 2];
    }
  }
  if (i < n) /* as in rq_dot_simd */
    for (int32_t r = 0; r < 4; r++) {
      float last[16] = {0};
      for (int32_t l = 0; i + l < n; l++) last[l] = a[i + l] * rows[(size_t)r * (size_t)n + i + l];
      const rq_vec *p = (const rq_vec *)last;
      sum[r][0] = sum[r][0] + p[v];
      sum[r][1] = sum[r][1] + p[v + 2];
    }
  for (int32_t r = 0; r < 4; r++) half[r] = sum[r][0] + sum[r][1];
}

/* out[r] = (a . rows[r]) * scale for four rows of n: the additions of rq_dot_simd. */
RQ_INLINE void rq_dot_four_simd(const float *a, const float *rows /* (4, n) */, int32_t n, float scale,
                                float *out) {
  rq_vec_value even[4], odd[4], four[4];
  half_of_four(a, rows, n, 0, even);
  half_of_four(a, rows, n, 1, odd);
  for (int32_t r = 0; r < 4; r++) four[r] = even[r] + odd[r];
  rq_vec_value l0 = {four[0][0], four[1][0], four[2][0], four[3][0]},
               l1 = {four[0][1], four[1][1], four[2][1], four[3][1]},
               l2 = {four[0][2], four[1][2], four[2][2], four[3][2]},
               l3 = {four[0][3], four[1][3], four[2][3], four[3][3]};
  *(rq_vec *)out = ((l0 + l2) + (l1 + l3)) * scale;
}

/* ---- values ---- */

/* Elements [d, d + 16) of `queries` totals, at most three: a row is read once for all. */
RQ_INLINE void add_16_values(float *totals, const float *rows, const float *p, size_t stride, int32_t queries,
                             int32_t keys, int32_t width) {
  rq_vec_value sum[3][4] = {{{0}}};
  for (int32_t j = 0; j < keys; j++, rows += width) {
    const rq_vec *row = (const rq_vec *)rows;
    const rq_vec_value r0 = row[0], r1 = row[1], r2 = row[2], r3 = row[3];
    for (int32_t n = 0; n < queries; n++) {
      float weight = p[(size_t)n * stride + (size_t)j];
      sum[n][0] = sum[n][0] + r0 * weight;
      sum[n][1] = sum[n][1] + r1 * weight;
      sum[n][2] = sum[n][2] + r2 * weight;
      sum[n][3] = sum[n][3] + r3 * weight;
    }
  }
  for (int32_t n = 0; n < queries; n++) {
    rq_vec *out = (rq_vec *)(totals + (size_t)n * (size_t)width);
    for (int32_t v = 0; v < 4; v++) out[v] = out[v] + sum[n][v];
  }
}

/* What is left of a row that isn't a multiple of 16 wide. */
RQ_INLINE void add_last_values(float *total, const float *rows, const float *p, int32_t keys, int32_t width,
                               int32_t d) {
  for (; d < width; d++) {
    float sum = 0.0f;
    for (int32_t j = 0; j < keys; j++) sum = sum + p[j] * rows[(size_t)j * (size_t)width + (size_t)d];
    total[d] = total[d] + sum;
  }
}

/* Adds p[n][j] * rows[j] to totals[n], for `count` queries and one block of keys: the block's own sum first.
 */
RQ_INLINE void rq_add_values_simd(float *totals, const float *rows, const float *p, size_t stride,
                                  int32_t count, int32_t keys, int32_t width) {
  int32_t whole = width & ~15;
  for (int32_t n = 0; n < count;) {
    int32_t queries = rq_min_i32(count - n, 3);
    float *out = totals + (size_t)n * (size_t)width;
    const float *weights = p + (size_t)n * stride;
    for (int32_t d = 0; d < whole; d += 16) {
      if (queries == 3)
        add_16_values(out + d, rows + d, weights, stride, 3, keys, width);
      else if (queries == 2)
        add_16_values(out + d, rows + d, weights, stride, 2, keys, width);
      else
        add_16_values(out + d, rows + d, weights, stride, 1, keys, width);
    }
    for (int32_t m = 0; m < queries && whole < width; m++)
      add_last_values(out + (size_t)m * (size_t)width, rows, weights + (size_t)m * stride, keys, width,
                      whole);
    n += queries;
  }
}

#endif
