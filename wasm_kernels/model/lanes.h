/* lanes.h: sums of floats in 16 lanes and one fixed halving tree: element i goes to lane i mod 16,
 * then lane l takes lane l + 8, l + 4, l + 2, l + 1. The plain loops are the definition; the vector
 * forms do the same additions, so that both give the same bits. */
#ifndef RQ_MODEL_LANES_H
#define RQ_MODEL_LANES_H
#include "../base/base.h"

/* Four floats anywhere in memory. */
typedef float rq_vec __attribute__((vector_size(16), aligned(4), may_alias));
typedef float rq_vec_value __attribute__((vector_size(16)));

static inline float rq_lanes_total(const float lanes[16]) {
  float sum[16];
  for (int32_t l = 0; l < 16; l++) sum[l] = lanes[l];
  for (int32_t half = 8; half > 0; half /= 2)
    for (int32_t l = 0; l < half; l++) sum[l] = sum[l] + sum[l + half];
  return sum[0];
}

static inline float rq_dot_scalar(const float *a, const float *b, int32_t n) {
  float lanes[16] = {0};
  for (int32_t i = 0; i < n; i++) lanes[i & 15] = lanes[i & 15] + a[i] * b[i];
  return rq_lanes_total(lanes);
}

static inline float rq_dot_simd(const float *a, const float *b, int32_t n) {
  rq_vec_value s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const rq_vec *p = (const rq_vec *)(a + i), *q = (const rq_vec *)(b + i);
    s0 = s0 + p[0] * q[0];
    s1 = s1 + p[1] * q[1];
    s2 = s2 + p[2] * q[2];
    s3 = s3 + p[3] * q[3];
  }
  if (i < n) { /* the last, partial round: the lanes without an element add +0, which changes nothing */
    float last[16] = {0};
    for (int32_t l = 0; i + l < n; l++) last[l] = a[i + l] * b[i + l];
    const rq_vec *p = (const rq_vec *)last;
    s0 = s0 + p[0];
    s1 = s1 + p[1];
    s2 = s2 + p[2];
    s3 = s3 + p[3];
  }
  rq_vec_value four = (s0 + s2) + (s1 + s3);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

static inline float rq_dot_f32(const float *a, const float *b, int32_t n, int32_t variant) {
  return variant == RQ_SCALAR ? rq_dot_scalar(a, b, n) : rq_dot_simd(a, b, n);
}

static inline float rq_sum_f32(const float *a, int32_t n) {
  float lanes[16] = {0};
  int32_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int32_t l = 0; l < 16; l++) lanes[l] = lanes[l] + a[i + l];
  for (int32_t l = 0; i + l < n; l++) lanes[l] = lanes[l] + a[i + l];
  return rq_lanes_total(lanes);
}

/* Whether every float is finite: looks at exponents only, so that no comparison can be optimised away. */
static inline bool rq_all_finite(const float *x, int32_t n) {
  uint32_t bad = 0;
  for (int32_t i = 0; i < n; i++) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    bad |= (bits & 0x7F800000u) == 0x7F800000u;
  }
  return bad == 0;
}

#endif
