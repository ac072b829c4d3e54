/* simd_ggml.c: 128-bit decoders and products of ggml's formats. Held to ggml.c bit for bit. */
#include "simd_ggml.h"

#if RQ_HAVE_SIMD

/* ---- one row times one vector ---- */

RV_INLINE rq_vi less_zero_codes(ggml_kind kind, rq_vi sums, const int32_t *part_sum) {
  if (zero_shift(kind) < 0) return sums;
  return rv_sub32(sums, rv_shl32(rv_load(part_sum), zero_shift(kind)));
}

/* Exact sums of four parts from four sums of each, corrected for unsigned codes. */
RV_INLINE rq_vi finish_quad(ggml_kind kind, const rq_vi *sums /* (4) */, const int32_t *part_sum) {
  return less_zero_codes(kind, rv_sums32(sums[0], sums[1], sums[2], sums[3]), part_sum);
}

RV_INLINE rq_vi quad_sums(ggml_kind kind, bool pairs, const rows_shared *s, const uint8_t *unit, int32_t quad,
                          const int8_t *steps, const int32_t *part_sum) {
  rq_vi sums[4];
  int32_t groups = part_of(kind) == 16 ? 2 : 4;
  for (int32_t i = 0; i < groups; i++) {
    int32_t g = groups * quad + i;
    rq_vi w[2];
    load_group(kind, s, unit, g, w);
    const int8_t *step = steps + 2 * RQ_STEP_BYTES * g;
    rq_vi first = add_vector(kind, pairs, rv_zero(), w[0], step);
    if (groups == 2) {
      sums[2 * i] = first;
      sums[2 * i + 1] = add_vector(kind, pairs, rv_zero(), w[1], step + RQ_STEP_BYTES);
    } else {
      sums[i] = add_vector(kind, pairs, first, w[1], step + RQ_STEP_BYTES);
    }
  }
  if (!pairs) return finish_quad(kind, sums, part_sum);
  return less_zero_codes(kind, rv_sums16(sums[0], sums[1], sums[2], sums[3], s->ones), part_sum);
}

/* The same sum in all four places: a block with one scale. */
RV_INLINE rq_vi block_sum(ggml_kind kind, bool pairs, const rows_shared *s, const uint8_t *unit,
                          const int8_t *steps, const int32_t *group_sum) {
  rq_vi sum = rv_zero();
  for (int32_t g = 0; g < RQ_BLOCK / 32; g++) {
    rq_vi w[2];
    load_group(kind, s, unit, g, w);
    for (int32_t half = 0; half < 2; half++)
      sum = add_vector(kind, pairs, sum, w[half], steps + RQ_STEP_BYTES * (2 * g + half));
  }
  if (pairs) sum = rv_dot16(sum, s->ones);
  sum = rv_sub32(sum, rv_shl32(rv_load(group_sum), zero_shift(kind)));
  return rv_sums32(sum, sum, sum, sum);
}

RV_INLINE rq_vf add_quad(ggml_kind kind, rq_vf acc, rq_vi sums, const int32_t *part_sum, rq_vf scale,
                         rq_vf offset, rq_vf dx) {
  acc = rf_add(acc, rf_mul(rf_from_i32(sums), rf_mul(scale, dx)));
  if (has_offsets(kind)) acc = rf_add(acc, rf_mul(rf_from_i32(rv_load(part_sum)), rf_mul(offset, dx)));
  return acc;
}

/* The sums of activations over the parts of the unit that starts with weight `start`. */
RV_INLINE const int32_t *part_sums(ggml_kind kind, const rq_activations *a, int32_t start) {
  const int32_t *sums = a->part_sum + RQ_PART_SUMS * (start / RQ_BLOCK);
  return part_of(kind) == 16 ? sums + RQ_PART_SUMS_16 : sums + start % RQ_BLOCK / 32;
}

RV_INLINE rq_vf add_unit(ggml_kind kind, bool pairs, const rows_shared *s, const uint8_t *unit,
                         int32_t number, const rq_activations *a, rq_vf acc) {
  int32_t start = unit_weights(kind) * number, block = start / RQ_BLOCK;
  const int8_t *steps = rv_address(a->steps + RQ_STEP_BYTES * (size_t)(start / 16));
  const int32_t *sums = part_sums(kind, a, start);
  rq_vf scale[4], offset[4], dx = rf_splat(a->scale[block]);
  for (int32_t i = 0; i < 4; i++) offset[i] = rf_splat(0.0f);
  unit_scales_by(kind, s, unit, number, scale, offset);
  for (int32_t quad = 0; quad < quads_of(kind); quad++) {
    rq_vi exact = part_of(kind) == RQ_BLOCK
                      ? block_sum(kind, pairs, s, unit, steps, a->group_sum + RQ_GROUPS * block)
                      : quad_sums(kind, pairs, s, unit, quad, steps, sums + 4 * quad);
    acc = add_quad(kind, acc, exact, sums + 4 * quad, scale[quad], offset[quad], dx);
  }
  return acc;
}

/* Blocks that don't fill a unit, with zeros behind them: they add +0 or -0, which changes no sum here. */
RV_INLINE void load_tail(ggml_kind kind, const uint8_t *row, int32_t blocks, uint8_t *unit) {
  rq_zero(unit, MAX_UNIT_BYTES_32);
  rq_copy(unit, row, (size_t)(block_bytes(kind) * blocks));
}

RV_INLINE float row_dot(ggml_kind kind, bool pairs, const uint8_t *row, const rq_activations *a) {
  rows_shared s = rows_shared_of(kind);
  rq_vf acc = rf_splat(0.0f);
  int32_t units = a->width / unit_weights(kind);
  int32_t bytes = block_bytes(kind) * (small_blocks(kind) ? UNIT_BLOCKS : 1);
  for (int32_t u = 0; u < units; u++, row += bytes)
    acc = add_unit(kind, pairs, &s, rv_address(row), u, a, acc);
  if (small_blocks(kind) && a->width % unit_weights(kind)) {
    uint8_t unit[MAX_UNIT_BYTES_32];
    load_tail(kind, row, a->width % unit_weights(kind) / 32, unit);
    acc = add_unit(kind, pairs, &s, unit, units, a, acc);
  }
  return rf_sum4(acc);
}

/* ---- any format, by its reader ---- */

static int32_t sum_of_4(rq_vi v) {
  int32_t sums[4];
  rv_store(sums, v);
  return sums[0] + sums[1] + sums[2] + sums[3];
}

/* Formats without offsets only. */
float rq_ggml_dot_simd(const rq_ggml *format, const uint8_t *row, const rq_activations *a) {
  float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  int32_t part = format->part, count = 0;
  const int8_t *q = a->q;
  for (int32_t start = 0; start < a->width; start += format->weights, row += format->bytes) {
    rq_ggml_block block;
    format->read(row, &block);
    float dx = a->scale[start / RQ_BLOCK];
    for (int32_t p = 0; p < format->weights / part; p++, count++) {
      rq_vi sum = rv_zero();
      for (int32_t i = 0; i < part; i += 16, q += 16) {
        rq_vi w = rv_load(block.value + part * p + i), x = rv_load(q);
        sum = rv_add32(sum, rv_dot16(rv_widen_low8(w), rv_widen_low8(x)));
        sum = rv_add32(sum, rv_dot16(rv_widen_high8(w), rv_widen_high8(x)));
      }
      acc[count % 4] = acc[count % 4] + (float)sum_of_4(sum) * (block.scale[p] * dx);
    }
  }
  return rq_sum4(acc);
}

/* ---- two rows times several vectors ---- */

enum { ROWS = 2 };

typedef struct unit_pair {
  rq_vi weights[ROWS][MAX_UNIT_VECTORS * RQ_STEP_VECTORS];
  rq_vf scale[ROWS][4], offset[ROWS][4];
} unit_pair;

RV_INLINE void load_unit(ggml_kind kind, const rows_shared *s, const uint8_t *unit, int32_t number,
                         rq_vi *weights, rq_vf *scale, rq_vf *offset) {
  unit_scales_by(kind, s, unit, number, scale, offset);
  for (int32_t g = 0; g < unit_weights(kind) / 32; g++) {
    rq_vi w[2];
    load_group(kind, s, unit, g, w);
    widen(kind, w[0], weights + RQ_STEP_VECTORS * (2 * g));
    widen(kind, w[1], weights + RQ_STEP_VECTORS * (2 * g + 1));
  }
}

RV_INLINE rq_vi pair_quad(ggml_kind kind, const rq_vi *weights, int32_t quad, const int8_t *steps,
                          const int32_t *part_sum, const int32_t *group_sum) {
  int32_t part = part_of(kind) / 16 * RQ_STEP_VECTORS; /* vectors */
  rq_vi sums[4];
  if (part_of(kind) == RQ_BLOCK) {
    rq_vi sum = rv_sub32(rv_zero(), rv_shl32(rv_load(group_sum), zero_shift(kind)));
    for (int32_t v = 0; v < part; v++) sum = multiply(kind, sum, weights[v], rv_load(steps + 16 * v));
    return rv_sums32(sum, sum, sum, sum);
  }
  for (int32_t p = 0; p < 4; p++) {
    sums[p] = rv_zero();
    for (int32_t v = 0; v < part; v++) {
      int32_t at = part * (4 * quad + p) + v;
      sums[p] = multiply(kind, sums[p], weights[at], rv_load(steps + 16 * at));
    }
  }
  return finish_quad(kind, sums, part_sum);
}

RV_INLINE void add_pair(ggml_kind kind, const unit_pair *units, int32_t number, const rq_activations *a,
                        rq_vf *acc /* (ROWS) */) {
  int32_t start = unit_weights(kind) * number, block = start / RQ_BLOCK;
  const int8_t *steps = a->steps + RQ_STEP_BYTES * (size_t)(start / 16);
  const int32_t *sums = part_sums(kind, a, start), *group_sum = a->group_sum + RQ_GROUPS * block;
  rq_vf dx = rf_splat(a->scale[block]);
  for (int32_t quad = 0; quad < quads_of(kind); quad++)
    for (int32_t row = 0; row < ROWS; row++) {
      rq_vi exact = pair_quad(kind, units->weights[row], quad, steps, sums + 4 * quad, group_sum);
      acc[row] = add_quad(kind, acc[row], exact, sums + 4 * quad, units->scale[row][quad],
                          units->offset[row][quad], dx);
    }
}

RV_INLINE void rows_pair(ggml_kind kind, const uint8_t *row0, const uint8_t *row1, const rq_activations *a,
                         int32_t count, float *y0, float *y1, size_t stride) {
  rows_shared s = rows_shared_of(kind);
  rq_vf acc[RQ_PRODUCT_VECTORS][ROWS];
  for (int32_t t = 0; t < count; t++) acc[t][0] = acc[t][1] = rf_splat(0.0f);
  int32_t weights = unit_weights(kind), number = 0;
  int32_t bytes = block_bytes(kind) * (small_blocks(kind) ? UNIT_BLOCKS : 1);
  for (int32_t start = 0; start < a->width; start += weights, number++, row0 += bytes, row1 += bytes) {
    unit_pair units;
    uint8_t tails[ROWS][MAX_UNIT_BYTES_32];
    const uint8_t *rows[ROWS] = {row0, row1};
    for (int32_t row = 0; row < ROWS; row++) {
      if (small_blocks(kind) && a->width - start < weights) {
        load_tail(kind, rows[row], (a->width - start) / 32, tails[row]);
        rows[row] = tails[row];
      }
      load_unit(kind, &s, rows[row], number, units.weights[row], units.scale[row], units.offset[row]);
    }
    for (int32_t t = 0; t < count; t++) add_pair(kind, &units, number, a + t, acc[t]);
  }
  for (int32_t t = 0; t < count; t++) {
    y0[stride * (size_t)t] = rf_sum4(acc[t][0]);
    y1[stride * (size_t)t] = rf_sum4(acc[t][1]);
  }
}

/* ---- decoding ---- */

/* Four integers times a scale, and an offset. */
RV_INLINE void store_4(ggml_kind kind, rq_vi values, rq_vf scale, rq_vf offset, float *out) {
  rq_vf weights = rf_mul(rf_from_i32(values), scale);
  rf_store(out, has_offsets(kind) ? rf_add(weights, offset) : weights);
}

RV_INLINE void decode_vector(ggml_kind kind, rq_vi w, float scale, float offset, float *out) {
  if (zero_shift(kind) >= 0) w = rv_sub8(w, rv_splat8((int8_t)(1 << rq_max_i32(0, zero_shift(kind)))));
  rq_vi low = rv_widen_low8(w), high = rv_widen_high8(w);
  rq_vf s = rf_splat(scale), o = rf_splat(offset);
  store_4(kind, rv_widen_low16(low), s, o, out);
  store_4(kind, rv_widen_high16(low), s, o, out + 4);
  store_4(kind, rv_widen_low16(high), s, o, out + 8);
  store_4(kind, rv_widen_high16(high), s, o, out + 12);
}

RV_INLINE void decode_unit(ggml_kind kind, const rows_shared *s, const uint8_t *unit, float *out) {
  rq_vf scale[4], offset[4];
  float scales[16], offsets[16];
  for (int32_t i = 0; i < 4; i++) offset[i] = rf_splat(0.0f);
  unit_scales_by(kind, s, unit, 0, scale, offset);
  for (int32_t quad = 0; quad < quads_of(kind); quad++) {
    rf_store(scales + 4 * quad, scale[quad]);
    rf_store(offsets + 4 * quad, offset[quad]);
  }
  for (int32_t v = 0; v < unit_weights(kind) / 16; v++) {
    rq_vi w[2];
    load_group(kind, s, unit, v / 2, w);
    int32_t p = 16 * v / part_of(kind);
    decode_vector(kind, w[v % 2], scales[p], offsets[p], out + 16 * v);
  }
}

RV_INLINE void row_decode(ggml_kind kind, const uint8_t *row, int32_t width, float *out) {
  rows_shared s = rows_shared_of(kind);
  int32_t weights = unit_weights(kind);
  int32_t bytes = block_bytes(kind) * (small_blocks(kind) ? UNIT_BLOCKS : 1);
  for (; width >= weights; width -= weights, row += bytes, out += weights) decode_unit(kind, &s, row, out);
  if (small_blocks(kind) && width > 0) {
    uint8_t unit[MAX_UNIT_BYTES_32];
    float rest[UNIT_BLOCKS * 32];
    load_tail(kind, row, width / 32, unit);
    decode_unit(kind, &s, unit, rest);
    rq_copy(out, rest, sizeof(float) * (size_t)width);
  }
}

#define DEFINE_KERNELS(name, kind)                                                              \
  void rq_##name##_decode_simd(const uint8_t *row, int32_t width, float *out) {                 \
    row_decode(kind, row, width, out);                                                          \
  }                                                                                             \
  float rq_##name##_dot_simd(const uint8_t *row, const rq_activations *a) {                     \
    if (!signed_values(kind) && rv_in_pairs()) return row_dot(kind, true, row, a);              \
    return row_dot(kind, false, row, a);                                                        \
  }                                                                                             \
  void rq_##name##_pair_simd(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, \
                             int32_t count, float *y0, float *y1, size_t stride) {              \
    rows_pair(kind, row0, row1, a, count, y0, y1, stride);                                      \
  }
DEFINE_KERNELS(q4_0, KIND_Q4_0)
DEFINE_KERNELS(q4_1, KIND_Q4_1)
DEFINE_KERNELS(q5_0, KIND_Q5_0)
DEFINE_KERNELS(q5_1, KIND_Q5_1)
DEFINE_KERNELS(iq4_nl, KIND_IQ4_NL)
DEFINE_KERNELS(mxfp4, KIND_MXFP4)
DEFINE_KERNELS(q2_k, KIND_Q2_K)
DEFINE_KERNELS(q3_k, KIND_Q3_K)
DEFINE_KERNELS(q4_k, KIND_Q4_K)
DEFINE_KERNELS(q5_k, KIND_Q5_K)
DEFINE_KERNELS(q6_k, KIND_Q6_K)
DEFINE_KERNELS(iq4_xs, KIND_IQ4_XS)
DEFINE_KERNELS(tq2_0, KIND_TQ2_0)

#else
typedef int rq_no_simd_ggml; /* a translation unit must not be empty */
#endif
