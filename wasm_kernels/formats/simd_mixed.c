/* simd_mixed.c: rows of mixed trellises times one vector, and blocks of them to integers. Held to own.c bit
 * for bit. One copy of each loop for full blocks and tails, two rows and one: pages download these kernels.
 */
#include "simd_mixed.h"

#if RQ_HAVE_SIMD

enum { ROWS = 2, SHIFT = 6 }; /* unsigned weights are too large by 2^SHIFT */

RV_INLINE void values_of(bool three_bits, const rq_own *own, const uint8_t *block, int32_t steps,
                         int8_t offset, rq_vi *values) {
  mixed_tables t = mixed_tables_of(own);
  mixed_past p = mixed_past_of(three_bits, own, &t, block, steps);
  int32_t groups = (steps + 3) / 4;
  RV_ROLLED
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g);
    rq_vi low = three_bits ? mixed_low(&t, block + 16 * groups, steps, g, &p) : bytes;
    for (int32_t j = 0; j < 4; j++)
      values[4 * g + j] = rv_sub8(mixed_step(three_bits, &t, bytes, low, &p, j), rv_splat8(offset));
  }
}

void rq_mixed_values_simd(const rq_own *own, const uint8_t *block, int32_t steps, int8_t offset,
                          rq_vi *values) {
  if (own->three_bits)
    values_of(true, own, block, steps, offset, values);
  else
    values_of(false, own, block, steps, offset, values);
}

/* Adds one block of r weights of each row to their sums. */
RV_INLINE void add_blocks(bool three_bits, bool pairs, const rq_own *own, const mixed_tables *t, rq_vi ones,
                          const uint8_t *const *blocks /* (ROWS) */, int32_t r, const rq_activations *a,
                          int32_t number, rq_vf *acc /* (ROWS) */) {
  int32_t steps = rq_block_steps(r), groups = (steps + 3) / 4;
  int32_t planes = 16 * groups + (three_bits ? rq_plane1_bytes(steps) : 0);
  rq_vi sums[ROWS];
  mixed_past past[ROWS];
  for (int32_t i = 0; i < ROWS; i++) {
    sums[i] = rv_zero();
    past[i] = mixed_past_of(three_bits, own, t, blocks[i], steps);
  }
  const int8_t *q = a->lanes + RQ_LANE_BLOCK_BYTES * (size_t)number; /* zero beyond the last step */
  RV_ROLLED
  for (int32_t g = 0; g < groups; g++, q += 4 * RQ_STEP_BYTES) {
    rq_vi bytes[ROWS], low[ROWS];
    q = rv_address(q);
    for (int32_t i = 0; i < ROWS; i++) {
      bytes[i] = rv_load(blocks[i] + 16 * g);
      low[i] = three_bits ? mixed_low(t, blocks[i] + 16 * groups, steps, g, &past[i]) : bytes[i];
    }
    for (int32_t j = 0; j < 4; j++) {
      rq_vi x[RQ_STEP_VECTORS];
      for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) x[v] = rv_load(q + RQ_STEP_BYTES * j + 16 * v);
      for (int32_t i = 0; i < ROWS; i++)
        sums[i] =
            rv_add_step(pairs, ones, sums[i], mixed_step(three_bits, t, bytes[i], low[i], &past[i], j), x);
    }
  }
  rq_vi over = rv_shl32(rv_load(a->group_sum + RQ_GROUPS * number), SHIFT);
  rq_vf dx = rf_splat(a->scale[number]);
  for (int32_t i = 0; i < ROWS; i++) {
    rq_vf scale = rf_mul(scales_of(own, true, blocks[i] + planes), dx);
    acc[i] = rf_add(acc[i], rf_mul(rf_from_i32(rv_sub32(sums[i], over)), scale));
  }
}

RV_INLINE void all_rows(bool three_bits, bool pairs, const rq_own *own, const uint8_t *data, size_t row_bytes,
                        int32_t rows, const rq_activations *a, float *y) {
  mixed_tables t = mixed_tables_of(own);
  rq_vi ones = rv_fixed16(1);
  for (int32_t r = 0; r < rows; r += ROWS) {
    int32_t other = rq_min_i32(r + 1, rows - 1); /* the last row twice, if it is alone */
    const uint8_t *blocks[ROWS] = {data + row_bytes * (size_t)r, data + row_bytes * (size_t)other};
    rq_vf acc[ROWS] = {rf_splat(0.0f), rf_splat(0.0f)};
    for (int32_t start = 0, b = 0; start < a->width; start += RQ_BLOCK, b++) {
      int32_t weights = rq_min_i32(RQ_BLOCK, a->width - start);
      add_blocks(three_bits, pairs, own, &t, ones, blocks, weights, a, b, acc);
      for (int32_t i = 0; i < ROWS; i++)
        blocks[i] += three_bits ? sizeof(rq_block_3bit) : sizeof(rq_block_2bit);
    }
    y[r] = rf_sum4(acc[0]);
    y[other] = rf_sum4(acc[1]);
  }
}

#define DEFINE_ROWS(name, three_bits)                                                                      \
  void rq_##name##_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a, \
                             float *y) {                                                                   \
    if (rv_in_pairs())                                                                                     \
      all_rows(three_bits, true, &rq_own_##name, data, row_bytes, rows, a, y);                             \
    else                                                                                                   \
      all_rows(three_bits, false, &rq_own_##name, data, row_bytes, rows, a, y);                            \
  }                                                                                                        \
  float rq_##name##_dot_simd(const uint8_t *row, const rq_activations *a) {                                \
    float y;                                                                                               \
    rq_##name##_rows_simd(row, 0, 1, a, &y);                                                               \
    return y;                                                                                              \
  }
DEFINE_ROWS(pi_x3, true)
DEFINE_ROWS(pi_x2, false)

#else
typedef int rq_no_simd_mixed; /* a translation unit must not be empty */
#endif
