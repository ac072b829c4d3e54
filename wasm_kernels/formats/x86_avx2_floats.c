/* x86_avx2_floats.c: products of float weights with AVX2, the 16 sums of an output in two registers. One
 * vector meets four rows at a time. Several meet one row at a time: their numbers, packed side by side, come
 * from the nearest cache as operands of the multiplications, and a weight is loaded and widened once for all
 * of a group. */
#include "x86.h"

#if RQ_HAVE_X86
#include <immintrin.h>

#include "foreign.h"
#include "simd_kernels.h"

RQ_TARGET_BEGIN("avx2,f16c")

typedef enum { FLOAT_32, FLOAT_16, BRAIN_16 } float_kind;

enum {
  GROUP = 6,    /* vectors at a time: 12 registers of sums */
  STEPS = 64,   /* times 16 columns at a time: the group's vectors, 24 KiB, stay in the nearest cache */
  PIECE = 64,   /* rows at a time, for which a group is packed once */
  TOGETHER = 4, /* rows at a time that meet one vector */
};

RV_INLINE size_t size_of(float_kind kind) { return kind == FLOAT_32 ? 4 : 2; }

/* 16 numbers in two registers: lanes 0 to 7 and 8 to 15; of BF16 the even ones and the odd ones, which needs
 * no shuffle. */
RV_INLINE void load_16(float_kind kind, const uint8_t *p, __m256 *w /* (2) */) {
  if (kind == FLOAT_32) {
    w[0] = _mm256_loadu_ps((const float *)(const void *)p);
    w[1] = _mm256_loadu_ps((const float *)(const void *)(p + 32));
  } else if (kind == FLOAT_16) {
    w[0] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
    w[1] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 16)));
  } else {
    __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)p);
    w[0] = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    w[1] = _mm256_and_ps(_mm256_castsi256_ps(both), _mm256_castsi256_ps(_mm256_set1_epi32(-65536)));
  }
}

/* 16 numbers of a vector in the same order. */
RV_INLINE void order_16(float_kind kind, const float *x, __m256 *out /* (2) */) {
  out[0] = _mm256_loadu_ps(x);
  out[1] = _mm256_loadu_ps(x + 8);
  if (kind != BRAIN_16) return;
  __m256 quads02 = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x)), _mm_loadu_ps(x + 8), 1);
  __m256 quads13 = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + 4)), _mm_loadu_ps(x + 12), 1);
  out[0] = _mm256_shuffle_ps(quads02, quads13, 0x88);
  out[1] = _mm256_shuffle_ps(quads02, quads13, 0xDD);
}

/* The fixed tree over 16 sums: l and l + 8, l and l + 4, then 2 and 1. */
RV_INLINE float sum_lanes(float_kind kind, const __m256 *acc /* (2) */) {
  rq_vf low, high; /* sums of l and l + 8, for l from 0 and from 4 on */
  if (kind == BRAIN_16) {
    rq_vf even = rf_add(_mm256_castps256_ps128(acc[0]), _mm256_extractf128_ps(acc[0], 1));
    rq_vf odd = rf_add(_mm256_castps256_ps128(acc[1]), _mm256_extractf128_ps(acc[1], 1));
    low = _mm_unpacklo_ps(even, odd);
    high = _mm_unpackhi_ps(even, odd);
  } else {
    __m256 eight = _mm256_add_ps(acc[0], acc[1]);
    low = _mm256_castps256_ps128(eight);
    high = _mm256_extractf128_ps(eight, 1);
  }
  rq_vf sum = rf_add(low, high);
  sum = rf_add(sum, rf_swap_halves(sum));
  return _mm_cvtss_f32(rf_add(sum, rf_swap_pairs(sum)));
}

/* ---- one vector ---- */

/* Adds 16 weights each of `rows` rows, which lie `stride` apart, times x (16). */
RV_INLINE void add_16(float_kind kind, int32_t rows, const uint8_t *data, size_t stride, const float *x,
                      __m256 (*acc)[2] /* (rows) */) {
  __m256 part[2];
  order_16(kind, x, part);
  for (int32_t i = 0; i < rows; i++) {
    __m256 w[2];
    load_16(kind, data + stride * (size_t)i, w);
    for (int32_t h = 0; h < 2; h++) acc[i][h] = _mm256_add_ps(acc[i][h], _mm256_mul_ps(part[h], w[h]));
  }
}

RV_INLINE void rows_alone(float_kind kind, int32_t rows, const uint8_t *data, size_t row_bytes,
                          const rq_activations *a, float *y) {
  __m256 acc[TOGETHER][2];
  for (int32_t i = 0; i < rows; i++) acc[i][0] = acc[i][1] = _mm256_setzero_ps();
  int32_t n = 0;
  for (; n + RQ_LANES <= a->width; n += RQ_LANES)
    add_16(kind, rows, data + size_of(kind) * (size_t)n, row_bytes, a->x + n, acc);
  if (n < a->width) { /* zeros beyond the end add +0, which changes no sum */
    uint8_t last[TOGETHER][4 * RQ_LANES] = {{0}};
    float last_x[RQ_LANES] = {0.0f};
    for (int32_t i = 0; i < rows; i++)
      rq_copy(last[i], data + row_bytes * (size_t)i + size_of(kind) * (size_t)n,
              size_of(kind) * (size_t)(a->width - n));
    rq_copy(last_x, a->x + n, sizeof(float) * (size_t)(a->width - n));
    add_16(kind, rows, last[0], sizeof last[0], last_x, acc);
  }
  for (int32_t i = 0; i < rows; i++) y[i] = sum_lanes(kind, acc[i]);
}

RV_INLINE void product_alone(float_kind kind, const uint8_t *data, size_t row_bytes, int32_t rows,
                             const rq_activations *a, float *y) {
  int32_t r = 0;
  for (; r + TOGETHER <= rows; r += TOGETHER)
    rows_alone(kind, TOGETHER, data + row_bytes * (size_t)r, row_bytes, a, y + r);
  for (; r < rows; r++) rows_alone(kind, 1, data + row_bytes * (size_t)r, row_bytes, a, y + r);
}

/* ---- several vectors ---- */

/* Numbers [start, start + n) of `count` vectors, 16 of each in turn; zeros beyond the end. */
RV_INLINE void pack(float_kind kind, int32_t count, const rq_activations *a, int32_t start, int32_t n,
                    __m256 (*packed)[2] /* (steps, count) */) {
  for (int32_t i = 0; i < n; i += RQ_LANES)
    for (int32_t v = 0; v < count; v++, packed++) {
      const float *x = a[v].x + start + i;
      float last[RQ_LANES] = {0.0f};
      if (n - i < RQ_LANES) {
        rq_copy(last, x, sizeof(float) * (size_t)(n - i));
        x = last;
      }
      order_16(kind, x, *packed);
    }
}

/* Adds `steps` times 16 weights of a row times as many numbers of each vector. */
RV_INLINE void add_steps(float_kind kind, int32_t count, const uint8_t *row, const __m256 (*packed)[2],
                         int32_t steps, __m256 (*sums)[2] /* (count) */) {
  __m256 acc[GROUP][2];
  for (int32_t v = 0; v < count; v++)
    for (int32_t h = 0; h < 2; h++) acc[v][h] = sums[v][h];
  for (int32_t s = 0; s < steps; s++, row += size_of(kind) * RQ_LANES, packed += count) {
    __m256 w[2];
    load_16(kind, row, w);
    for (int32_t h = 0; h < 2; h++)
      for (int32_t v = 0; v < count; v++)
        acc[v][h] = _mm256_add_ps(acc[v][h], _mm256_mul_ps(packed[v][h], w[h]));
  }
  for (int32_t v = 0; v < count; v++)
    for (int32_t h = 0; h < 2; h++) sums[v][h] = acc[v][h];
}

/* At most PIECE rows times `count` vectors, a constant. */
RV_INLINE void multiply_group(float_kind kind, int32_t count, const uint8_t *data, size_t row_bytes,
                              int32_t rows, const rq_activations *a, float *y, size_t stride) {
  __m256 packed[STEPS * GROUP][2], sums[PIECE][GROUP][2];
  for (int32_t r = 0; r < rows; r++)
    for (int32_t v = 0; v < count; v++) sums[r][v][0] = sums[r][v][1] = _mm256_setzero_ps();
  for (int32_t start = 0; start < a->width; start += STEPS * RQ_LANES) {
    int32_t n = rq_min_i32(STEPS * RQ_LANES, a->width - start), steps = n / RQ_LANES, rest = n % RQ_LANES;
    pack(kind, count, a, start, n, packed);
    for (int32_t r = 0; r < rows; r++) {
      const uint8_t *row = data + row_bytes * (size_t)r + size_of(kind) * (size_t)start;
      add_steps(kind, count, row, (const __m256(*)[2])packed, steps, sums[r]);
      if (!rest) continue;
      uint8_t last[4 * RQ_LANES] = {0};
      rq_copy(last, row + size_of(kind) * RQ_LANES * (size_t)steps, size_of(kind) * (size_t)rest);
      add_steps(kind, count, last, (const __m256(*)[2])packed + count * steps, 1, sums[r]);
    }
  }
  for (int32_t r = 0; r < rows; r++)
    for (int32_t v = 0; v < count; v++) y[stride * (size_t)v + (size_t)r] = sum_lanes(kind, sums[r][v]);
}

RV_INLINE void multiply_piece(float_kind kind, const uint8_t *data, size_t row_bytes, int32_t rows,
                              const rq_activations *a, int32_t count, float *y, size_t stride) {
  switch (count) {
    case 2: multiply_group(kind, 2, data, row_bytes, rows, a, y, stride); return;
    case 3: multiply_group(kind, 3, data, row_bytes, rows, a, y, stride); return;
    case 4: multiply_group(kind, 4, data, row_bytes, rows, a, y, stride); return;
    case 5: multiply_group(kind, 5, data, row_bytes, rows, a, y, stride); return;
    default: multiply_group(kind, GROUP, data, row_bytes, rows, a, y, stride);
  }
}

RV_INLINE void product(float_kind kind, const uint8_t *data, size_t row_bytes, int32_t rows,
                       const rq_activations *a, int32_t count, float *y, size_t stride) {
  if (count == 1) {
    product_alone(kind, data, row_bytes, rows, a, y);
    return;
  }
  for (int32_t r = 0; r < rows; r += PIECE)
    for (int32_t v = 0, groups = (count + GROUP - 1) / GROUP; groups > 0; groups--) {
      int32_t size = (count - v + groups - 1) / groups; /* nearly one size */
      multiply_piece(kind, data + row_bytes * (size_t)r, row_bytes, rq_min_i32(PIECE, rows - r), a + v, size,
                     y + stride * (size_t)v + r, stride);
      v += size;
    }
}

#define DEFINE_PRODUCT(name, kind) \
  RQ_PRODUCT(name##_avx2) { product(kind, data, row_bytes, rows, a, count, y, stride); }
DEFINE_PRODUCT(f32, FLOAT_32)
DEFINE_PRODUCT(f16, FLOAT_16)
DEFINE_PRODUCT(bf16, BRAIN_16)

RQ_TARGET_END

#else
typedef int rq_no_avx2_floats; /* a translation unit must not be empty */
#endif
