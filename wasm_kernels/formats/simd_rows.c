/* simd_rows.c: rows of ruvq's own formats times one vector, several rows at a time: they share the loads of
 * the activations and their corrections. Held to own.c bit for bit. */
#include "simd_blocks.h"

#if RQ_HAVE_SIMD

enum { ROWS = RQ_LANES_WIDE ? 4 : 2 }; /* wide activations take twice the loads */

/* Adds one block of each of `rows` rows to their sums. `rows`, `kind` and `full` are constants. */
RV_INLINE void add_blocks(block_kind kind, int32_t rows, bool full, const lookup *tables, const rq_own *own,
                          const uint8_t *const *blocks /* (rows) */, int32_t r, const rq_activations *a,
                          int32_t number, rq_vf *acc /* (rows) */) {
  bool three_bits = kind == KIND_Q3 || kind == KIND_T3, trellis = kind == KIND_T3 || kind == KIND_T2;
  int32_t steps = full ? RQ_LANES : rq_block_steps(r), groups = (steps + 3) / 4;
  rq_vi sums[ROWS], before[ROWS];
  rq_vi correction = rv_sub32(rv_zero(), rv_shl32(rv_load(a->group_sum + RQ_GROUPS * number), shift_of(own)));
  for (int32_t i = 0; i < rows; i++) {
    sums[i] = correction;
    before[i] = trellis ? before_first(blocks[i], steps) : rv_zero();
  }
  const int8_t *q = a->lanes + RQ_LANE_BLOCK_BYTES * (size_t)number; /* zero beyond the last step */
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes[ROWS], low_bits[ROWS];
    for (int32_t i = 0; i < rows; i++) {
      bytes[i] = rv_load(blocks[i] + 16 * g);
      low_bits[i] = three_bits ? low_bits_of(kind, blocks[i] + 16 * groups, steps, g) : rv_zero();
    }
    for (int32_t j = 0; j < 4; j++, q += RQ_STEP_BYTES) {
      rq_vi x[RQ_STEP_VECTORS];
      for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) x[v] = rv_load(q + 16 * v);
      for (int32_t i = 0; i < rows; i++) {
        rq_vi wide[RQ_STEP_VECTORS];
        rv_widen_step(one_step(kind, tables, bytes[i], before[i], low_bits[i], j), wide);
        for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) sums[i] = rv_multiply_add(sums[i], wide[v], x[v]);
      }
    }
    for (int32_t i = 0; i < rows; i++) before[i] = bytes[i];
  }
  rq_vf dx = rf_splat(a->scale[number]);
  int32_t header = rq_own_block_bytes(own, r) - 2;
  for (int32_t i = 0; i < rows; i++) {
    rq_vf t = rf_mul(scales_of(own, trellis, blocks[i] + header), dx);
    acc[i] = rf_add(acc[i], rf_mul(rf_from_i32(sums[i]), t));
  }
}

RV_INLINE void rows_dot(block_kind kind, int32_t rows, const rq_own *own, const lookup *tables,
                        const uint8_t *row, size_t row_bytes, const rq_activations *a, float *y) {
  const uint8_t *blocks[ROWS];
  rq_vf acc[ROWS];
  for (int32_t i = 0; i < rows; i++) {
    blocks[i] = row + row_bytes * (size_t)i;
    acc[i] = rf_splat(0.0f);
  }
  int32_t full = a->width / RQ_BLOCK, tail = a->width % RQ_BLOCK;
  size_t bytes = kind == KIND_Q3 || kind == KIND_T3 ? sizeof(rq_block_3bit) : sizeof(rq_block_2bit);
  for (int32_t b = 0; b < full; b++) {
    add_blocks(kind, rows, true, tables, own, blocks, RQ_BLOCK, a, b, acc);
    for (int32_t i = 0; i < rows; i++) blocks[i] += bytes;
  }
  if (tail) add_blocks(kind, rows, false, tables, own, blocks, tail, a, full, acc);
  for (int32_t i = 0; i < rows; i++) y[i] = rf_sum4(acc[i]);
}

RV_INLINE void all_rows(block_kind kind, const rq_own *own, const uint8_t *data, size_t row_bytes,
                        int32_t count, const rq_activations *a, float *y) {
  lookup tables = lookup_of(kind);
  int32_t r = 0;
  for (; r + ROWS <= count; r += ROWS)
    rows_dot(kind, ROWS, own, &tables, data + row_bytes * (size_t)r, row_bytes, a, y + r);
  for (; r < count; r++) rows_dot(kind, 1, own, &tables, data + row_bytes * (size_t)r, row_bytes, a, y + r);
}

#define DEFINE_ROWS(name, kind)                                                                            \
  void rq_##name##_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a, \
                             float *y) {                                                                   \
    all_rows(kind, &rq_own_##name, data, row_bytes, rows, a, y);                                           \
  }                                                                                                        \
  float rq_##name##_dot_simd(const uint8_t *row, const rq_activations *a) {                                \
    float y;                                                                                               \
    all_rows(kind, &rq_own_##name, row, 0, 1, a, &y);                                                      \
    return y;                                                                                              \
  }
DEFINE_ROWS(pi_q3, KIND_Q3)
DEFINE_ROWS(pi_q2, KIND_Q2)
DEFINE_ROWS(pi_t3, KIND_T3)
DEFINE_ROWS(pi_t2, KIND_T2)
DEFINE_ROWS(ternary, KIND_Q2)

#else
typedef int rq_no_simd_rows; /* a translation unit must not be empty */
#endif
