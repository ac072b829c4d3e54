/* simd_activations.c: 128-bit quantization of activations, their order in lanes, and the Walsh-Hadamard
 * transform. Held to activations.c and hadamard.c bit for bit. */
#include "simd_kernels.h"

#if RQ_HAVE_SIMD

/* Four numbers to integers within +-127, nearest even: adding 1.5 * 2^23 leaves the integer in the low bits.
 */
RV_INLINE rq_vi quantize_4(const float *x, rq_vf dx) {
  const rq_vf shift = rf_splat(0x1.8p23f);
  rq_vf v = rf_div(rf_load(x), dx);
  v = rf_max(rf_splat(-127.0f), rf_min(rf_splat(127.0f), v));
  return rv_sub32(rv_bits_of(rf_add(v, shift)), rv_bits_of(shift));
}

RV_INLINE rq_vi quantize_16(const float *x, rq_vf dx) {
  rq_vi low = rv_pack32(quantize_4(x, dx), quantize_4(x + 4, dx));
  rq_vi high = rv_pack32(quantize_4(x + 8, dx), quantize_4(x + 12, dx));
  return rv_pack16(low, high);
}

void rq_quantize_block_simd(const float *x, int32_t r, float dx, int8_t *q) {
  rq_vf scale = rf_splat(dx);
  int32_t i = 0;
  for (; i + 16 <= r; i += 16) rv_store(q + i, quantize_16(x + i, scale));
  if (i == r) return;
  float rest[16] = {0.0f};
  rq_copy(rest, x + i, (size_t)(r - i) * sizeof(float));
  rv_store(q + i, quantize_16(rest, scale)); /* q has room for 256 */
}

RV_INLINE void store_step(int8_t *lanes, int32_t step, rq_vi q) {
#if RQ_LANES_WIDE
  rq_vi high_byte = rv_shl16(q, 8);
  rv_store(lanes + RQ_STEP_BYTES * step, rv_sar16(high_byte, 8));
  rv_store(lanes + RQ_STEP_BYTES * step + 16, rv_sub16(rv_sar16(q, 8), high_byte)); /* within +-32639 */
#else
  rv_store(lanes + RQ_STEP_BYTES * step, q);
#endif
}

void rq_lanes_simd(const int8_t *q, int32_t r, int8_t *lanes) {
  rq_vi rows[RQ_LANES];
  int32_t steps = rq_block_steps(r);
  /* a row starts with its lane's weights; behind them are the next lane's */
  for (int32_t l = 0; l < RQ_LANES; l++) rows[l] = rv_load(q + steps * l);
  rv_transpose8(rows);
  for (int32_t j = 0; j < RQ_LANES; j++) store_step(lanes, j, j < steps ? rows[j] : rv_zero());
}

/* Sums over 16 bytes, in four parts. */
RV_INLINE rq_vi sum_16(const int8_t *q) {
  rq_vi v = rv_load(q), one = rv_splat16(1);
  return rv_add32(rv_dot16(rv_widen_low8(v), one), rv_dot16(rv_widen_high8(v), one));
}

void rq_part_sums_simd(const int8_t *q, int32_t *sums) {
  for (int32_t p = 0; p < RQ_LANES; p += 4, q += 64) {
    rq_vi a = sum_16(q), b = sum_16(q + 16), c = sum_16(q + 32), d = sum_16(q + 48);
    rq_vi ac = rv_add32(rv_zip_low32(a, c), rv_zip_high32(a, c)); /* a02, c02, a13, c13 */
    rq_vi bd = rv_add32(rv_zip_low32(b, d), rv_zip_high32(b, d));
    rv_store(sums + p, rv_add32(rv_zip_low32(ac, bd), rv_zip_high32(ac, bd)));
  }
}

#if RQ_LANES_WIDE
void rq_steps_simd(const int8_t *q, int8_t *steps) {
  for (int32_t j = 0; j < RQ_LANES; j++, steps += RQ_STEP_BYTES) {
    rq_vi pairs = rv_load(q + 16 * j), high_byte = rv_shl16(pairs, 8);
    rv_store(steps, rv_sar16(high_byte, 8));
    rv_store(steps + 16, wasm_i16x8_sub(rv_sar16(pairs, 8), high_byte));
  }
}
#endif

/* ---- Walsh-Hadamard ---- */

/* Distances 1 and 2 inside a vector. a - b comes as a + (-b), which is the same number. */
RV_INLINE rq_vf butterflies_1_2(rq_vf v) {
  static const uint32_t odd[4] = {0, 0x80000000u, 0, 0x80000000u},
                        upper[4] = {0, 0, 0x80000000u, 0x80000000u};
  rq_vf flipped = rf_of_bits(rv_xor(rv_bits_of(v), rv_load(odd)));
  v = rf_add(rf_swap_pairs(v), flipped);
  flipped = rf_of_bits(rv_xor(rv_bits_of(v), rv_load(upper)));
  return rf_add(rf_swap_halves(v), flipped);
}

/* Two distances over four vectors: a with b and c with d, then their results. */
RV_INLINE void butterflies_4(rq_vf v[4]) {
  rq_vf sum_ab = rf_add(v[0], v[1]), diff_ab = rf_sub(v[0], v[1]);
  rq_vf sum_cd = rf_add(v[2], v[3]), diff_cd = rf_sub(v[2], v[3]);
  v[0] = rf_add(sum_ab, sum_cd);
  v[1] = rf_add(diff_ab, diff_cd);
  v[2] = rf_sub(sum_ab, sum_cd);
  v[3] = rf_sub(diff_ab, diff_cd);
}

/* Signs and distances 1, 2, 4 and 8, over 16 numbers; `signs` may be NULL. */
RV_INLINE void hadamard_16(float *x, const float *signs) {
  rq_vf v[4];
  for (int32_t n = 0; n < 4; n++) {
    v[n] = rf_load(x + 4 * n);
    if (signs) v[n] = rf_mul(v[n], rf_load(signs + 4 * n));
    v[n] = butterflies_1_2(v[n]);
  }
  butterflies_4(v);
  for (int32_t n = 0; n < 4; n++) rf_store(x + 4 * n, v[n]);
}

/* Distances h and 2h over the whole piece; times `factor`, which is 1 unless these are the last. */
RV_INLINE void hadamard_pass(float *x, int32_t size, int32_t h, float factor) {
  rq_vf scale = rf_splat(factor), v[4];
  for (int32_t start = 0; start < size; start += 4 * h)
    for (int32_t i = start; i < start + h; i += 4) {
      for (int32_t n = 0; n < 4; n++) v[n] = rf_load(x + i + n * h);
      butterflies_4(v);
      for (int32_t n = 0; n < 4; n++) rf_store(x + i + n * h, rf_mul(v[n], scale));
    }
}

/* The distance size / 2 alone, times `factor`. */
RV_INLINE void hadamard_last(float *x, int32_t size, float factor) {
  rq_vf scale = rf_splat(factor);
  for (int32_t i = 0; i < size / 2; i += 4) {
    rq_vf a = rf_load(x + i), b = rf_load(x + i + size / 2);
    rf_store(x + i, rf_mul(rf_add(a, b), scale));
    rf_store(x + i + size / 2, rf_mul(rf_sub(a, b), scale));
  }
}

void rq_hadamard_piece_simd(float *x, const float *signs, int32_t size, float factor, bool inverse) {
  for (int32_t i = 0; i < size; i += 16) hadamard_16(x + i, inverse ? NULL : signs + i);
  int32_t h = 16;
  for (; 4 * h < size; h *= 4) hadamard_pass(x, size, h, 1.0f);
  if (4 * h == size)
    hadamard_pass(x, size, h, factor);
  else if (2 * h == size)
    hadamard_last(x, size, factor);
  else
    for (int32_t i = 0; i < size; i += 4) rf_store(x + i, rf_mul(rf_load(x + i), rf_splat(factor)));
  if (!inverse) return;
  for (int32_t i = 0; i < size; i += 4) rf_store(x + i, rf_mul(rf_load(x + i), rf_load(signs + i)));
}

#else
typedef int rq_no_simd_activations; /* a translation unit must not be empty */
#endif
