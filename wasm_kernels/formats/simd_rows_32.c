/* simd_rows_32.c: rows of ggml's formats with blocks of 32 weights times one vector, four rows at a time: a
 * vector holds a number of each row, so that their scales are read together and nothing is summed across it.
 * Held to foreign.c and ggml.c bit for bit. */
#include "simd_ggml.h"

#if RQ_HAVE_SIMD

enum { ROWS = 4, WEIGHTS = 32 };

/* The same place of four rows. */
typedef struct four {
  const uint8_t *row[ROWS];
} four;

RV_INLINE rq_vf four_halves(const half_bits *half, const four *blocks, int32_t at) {
  uint64_t bits[ROWS];
  for (int32_t i = 0; i < ROWS; i++) bits[i] = rq_read_u16(blocks->row[i] + at);
  uint64_t two[2] = {bits[0] | bits[1] << 32, bits[2] | bits[3] << 32};
  return rf_from_f16_by(rv_shl32(rv_load(two), 16), half);
}

RV_INLINE rq_vf four_exponents(const four *blocks) {
  uint32_t bits[ROWS];
  for (int32_t i = 0; i < ROWS; i++) bits[i] = exponent_bits(blocks->row[i][0]);
  return rf_of_bits(rv_load(bits));
}

/* ---- Q8_0 ---- */

/* A pair of weights (low, high) is multiplied as 256 low and 256 high, which takes no widening and is exact
 * for -128 too; the sums come divided by 256. */
RV_INLINE rq_vi sums_q8_0(const four *blocks, const int8_t *q, rq_vi upper) {
  rq_vi even[2], odd[2], sums[ROWS];
  for (int32_t v = 0; v < 2; v++) {
    rq_vi x = rv_load(q + 16 * v);
    even[v] = rv_sar16(rv_shl16(x, 8), 8);
    odd[v] = rv_sar16(x, 8);
  }
  for (int32_t i = 0; i < ROWS; i++) {
    const uint8_t *weights = blocks->row[i] + offsetof(rq_block_q8_0, q);
    rq_vi sum[2];
    for (int32_t v = 0; v < 2; v++) {
      rq_vi w = rv_load(weights + 16 * v);
      sum[v] = rv_add32(rv_dot16(rv_shl16(w, 8), even[v]), rv_dot16(rv_and(w, upper), odd[v]));
    }
    sums[i] = rv_add32(sum[0], sum[1]);
  }
  return rv_sar32(rv_sums32(sums[0], sums[1], sums[2], sums[3]), 8);
}

RV_INLINE void four_rows_q8_0(const uint8_t *data, size_t row_bytes, const rq_activations *a, float *y) {
  four blocks;
  rq_vf acc[4];
  for (int32_t i = 0; i < ROWS; i++) {
    blocks.row[i] = data + row_bytes * (size_t)i;
    acc[i] = rf_splat(0.0f);
  }
  const rq_vi upper = rv_fixed16(-256);
  const half_bits half = half_bits_of();
  const int8_t *q = a->q;
  int32_t count = a->width / WEIGHTS;
  for (int32_t b = 0; b < count; b += 4)
    for (int32_t f = 0; f < 4 && b + f < count; f++, q += WEIGHTS) {
      rq_vf dx = rf_splat(a->scale[WEIGHTS * b / RQ_BLOCK]);
      rq_vf sums = rf_from_i32(sums_q8_0(&blocks, q, upper));
      acc[f] = rf_add(acc[f], rf_mul(sums, rf_mul(four_halves(&half, &blocks, 0), dx)));
      for (int32_t i = 0; i < ROWS; i++) blocks.row[i] = rv_address(blocks.row[i] + sizeof(rq_block_q8_0));
    }
  rf_store(y, rf_add(rf_add(acc[0], acc[1]), rf_add(acc[2], acc[3])));
}

void rq_q8_0_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a,
                       float *y) {
  int32_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) four_rows_q8_0(data + row_bytes * (size_t)r, row_bytes, a, y + r);
  for (; r < rows; r++) y[r] = rq_q8_0_dot_simd(data + row_bytes * (size_t)r, a);
}

/* ---- blocks of 4 and 5 bits; `kind` and `pairs` (rv_in_pairs) are constants ---- */

RV_INLINE rq_vi sums_of(ggml_kind kind, bool pairs, const rows_shared *s, const four *blocks,
                        const int8_t *steps, int32_t part_sum) {
  rq_vi sums[ROWS];
  for (int32_t i = 0; i < ROWS; i++) {
    rq_vi w[2];
    load_block(kind, s, blocks->row[i], w);
    sums[i] = add_vector(kind, pairs, rv_zero(), w[0], steps);
    sums[i] = add_vector(kind, pairs, sums[i], w[1], steps + RQ_STEP_BYTES);
  }
  rq_vi total = pairs ? rv_sums16(sums[0], sums[1], sums[2], sums[3], s->ones)
                      : rv_sums32(sums[0], sums[1], sums[2], sums[3]);
  return zero_shift(kind) < 0 ? total : rv_sub32(total, rv_splat32(part_sum << zero_shift(kind)));
}

RV_INLINE void four_rows(ggml_kind kind, bool pairs, const rows_shared *s, const uint8_t *data,
                         size_t row_bytes, const rq_activations *a, float *y) {
  four blocks;
  rq_vf acc[4];
  for (int32_t i = 0; i < ROWS; i++) {
    blocks.row[i] = data + row_bytes * (size_t)i;
    acc[i] = rf_splat(0.0f);
  }
  const half_bits half = half_bits_of();
  const int8_t *steps = a->steps;
  int32_t count = a->width / WEIGHTS;
  for (int32_t b = 0; b < count; b += 4)
    for (int32_t f = 0; f < 4 && b + f < count; f++, steps += 2 * RQ_STEP_BYTES) {
      int32_t block = WEIGHTS * b / RQ_BLOCK, part_sum = a->part_sum[RQ_PART_SUMS * block + b % 8 + f];
      rq_vf dx = rf_splat(a->scale[block]);
      rq_vf scale = kind == KIND_MXFP4 ? four_exponents(&blocks) : four_halves(&half, &blocks, 0);
      rq_vf sums = rf_from_i32(sums_of(kind, pairs, s, &blocks, steps, part_sum));
      acc[f] = rf_add(acc[f], rf_mul(sums, rf_mul(scale, dx)));
      if (has_offsets(kind))
        acc[f] =
            rf_add(acc[f], rf_mul(rf_splat((float)part_sum), rf_mul(four_halves(&half, &blocks, 2), dx)));
      for (int32_t i = 0; i < ROWS; i++) blocks.row[i] = rv_address(blocks.row[i] + block_bytes(kind));
    }
  rf_store(y, rf_add(rf_add(acc[0], acc[1]), rf_add(acc[2], acc[3])));
}

RV_INLINE int32_t all_fours(ggml_kind kind, bool pairs, const uint8_t *data, size_t row_bytes, int32_t rows,
                            const rq_activations *a, float *y) {
  rows_shared s = rows_shared_of(kind);
  int32_t r = 0;
  for (; r + ROWS <= rows; r += ROWS)
    four_rows(kind, pairs, &s, data + row_bytes * (size_t)r, row_bytes, a, y + r);
  return r;
}

#define DEFINE_ROWS(name, kind)                                                                              \
  void rq_##name##_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a,   \
                             float *y) {                                                                     \
    int32_t r = !signed_values(kind) && rv_in_pairs() ? all_fours(kind, true, data, row_bytes, rows, a, y)   \
                                                      : all_fours(kind, false, data, row_bytes, rows, a, y); \
    for (; r < rows; r++) y[r] = rq_##name##_dot_simd(data + row_bytes * (size_t)r, a);                      \
  }
DEFINE_ROWS(q4_0, KIND_Q4_0)
DEFINE_ROWS(q4_1, KIND_Q4_1)
DEFINE_ROWS(q5_0, KIND_Q5_0)
DEFINE_ROWS(q5_1, KIND_Q5_1)
DEFINE_ROWS(iq4_nl, KIND_IQ4_NL)
DEFINE_ROWS(mxfp4, KIND_MXFP4)

#else
typedef int rq_no_simd_rows_32; /* a translation unit must not be empty */
#endif
