/* simd_ggml.h: ggml's blocks to vectors, for simd_ggml.c and simd_rows_32.c. Kernels work on units of whole
 * 16-byte vectors in the order of the weights: a block of 256, or four blocks of 32. Codes stay unsigned, and
 * sums are corrected by the sum of the activations; values out of a table are signed. */
#ifndef RQ_SIMD_GGML_H
#define RQ_SIMD_GGML_H
#include "ggml.h"
#include "simd_half.h"
#include "simd_kernels.h"

#if RQ_HAVE_SIMD

typedef enum {
  KIND_Q4_0,
  KIND_Q4_1,
  KIND_Q5_0,
  KIND_Q5_1,
  KIND_IQ4_NL,
  KIND_MXFP4, /* the last with blocks of 32 */
  KIND_Q2_K,
  KIND_Q3_K,
  KIND_Q4_K,
  KIND_Q5_K,
  KIND_Q6_K,
  KIND_IQ4_XS,
  KIND_TQ2_0,
} ggml_kind;

enum { UNIT_BLOCKS = 4, MAX_UNIT_VECTORS = RQ_BLOCK / 16, MAX_UNIT_BYTES_32 = UNIT_BLOCKS * 24 };

/* Constants of a kind; all of these fold away. */
RV_INLINE bool small_blocks(ggml_kind kind) { return kind <= KIND_MXFP4; }
RV_INLINE int32_t unit_weights(ggml_kind kind) { return small_blocks(kind) ? 128 : RQ_BLOCK; }
RV_INLINE bool signed_values(ggml_kind kind) {
  return kind == KIND_IQ4_NL || kind == KIND_IQ4_XS || kind == KIND_MXFP4;
}
RV_INLINE int32_t part_of(ggml_kind kind) {
  return kind == KIND_Q2_K || kind == KIND_Q3_K || kind == KIND_Q6_K ? 16
         : kind == KIND_TQ2_0                                        ? RQ_BLOCK
                                                                     : 32;
}
RV_INLINE bool has_offsets(ggml_kind kind) {
  return kind == KIND_Q4_1 || kind == KIND_Q5_1 || kind == KIND_Q2_K || kind == KIND_Q4_K ||
         kind == KIND_Q5_K;
}
/* The code of weight 0, as the exponent of 2; -1: none, codes are the values. */
RV_INLINE int32_t zero_shift(ggml_kind kind) {
  switch (kind) {
    case KIND_Q4_0: return 3;
    case KIND_Q5_0: return 4;
    case KIND_Q3_K: return 2;
    case KIND_Q6_K: return 5;
    case KIND_TQ2_0: return 0;
    default: return -1;
  }
}
/* Scales of a unit come in vectors of four parts. */
RV_INLINE int32_t quads_of(ggml_kind kind) {
  return kind == KIND_TQ2_0 ? 1 : unit_weights(kind) / part_of(kind) / 4;
}
/* Bytes of a block, and where its codes start. */
RV_INLINE int32_t block_bytes(ggml_kind kind) {
  static const int16_t bytes[] = {18, 20, 22, 24, 18, 17, 84, 110, 144, 176, 210, 136, 66};
  return bytes[kind];
}
RV_INLINE int32_t codes_at(ggml_kind kind) {
  static const int16_t start[] = {2, 4, 6, 8, 2, 1, 16, 32, 16, 48, 0, 8, 0};
  return start[kind];
}

/* What all units of a row have in common, for loops to keep in registers. */
typedef struct rows_shared {
  rq_vi table, ones, nibble;         /* values of 4-bit codes; 1 in each i16; 15 in each byte */
  rq_vi bit_of, byte_of[2], sixteen; /* how 32 bits are spread over as many bytes */
  half_bits half;
  rq_vi minus; /* the sign of the second and fourth number */
} rows_shared;

RV_INLINE rq_vi ggml_table(ggml_kind kind) {
  if (!signed_values(kind)) return rv_zero();
  return rv_fixed(kind == KIND_MXFP4 ? rq_values_fp4 : rq_values_iq4);
}

RV_INLINE rows_shared rows_shared_of(ggml_kind kind) {
  static const uint8_t byte_of[2][16] = {{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1},
                                         {2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3}};
  static const uint8_t bit_of[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  static const uint32_t minus[4] = {0, 0x80000000u, 0, 0x80000000u};
  rows_shared s;
  s.table = ggml_table(kind);
  s.ones = rv_fixed16(1);
  s.nibble = rv_fixed8(15);
  s.sixteen = rv_fixed8(16);
  s.half = half_bits_of();
  s.minus = rv_fixed(minus);
  s.bit_of = rv_fixed(bit_of);
  for (int32_t half = 0; half < 2; half++) s.byte_of[half] = rv_fixed(byte_of[half]);
  return s;
}

/* Bits `from` and up of every byte, as many as `mask` has, moved to bit `to`. */
RV_INLINE rq_vi field(rq_vi bytes, int32_t from, int32_t to, int32_t mask) {
  rq_vi moved = from > to ? rv_shr16(bytes, from - to) : rv_shl16(bytes, to - from);
  return rv_and(moved, rv_splat8((int8_t)(mask << to)));
}

/* A block of 32 weights. */
RV_INLINE void load_block(ggml_kind kind, const rows_shared *s, const uint8_t *block, rq_vi *w /* (2) */) {
  rq_vi codes = rv_load(block + codes_at(kind));
  w[0] = rv_and(codes, s->nibble);
  w[1] = rv_and(rv_shr16(codes, 4), s->nibble);
  if (kind == KIND_Q5_0 || kind == KIND_Q5_1) {
    rq_vi high = rv_splat32((int32_t)rq_read_u32(block + codes_at(kind) - 4));
    for (int32_t half = 0; half < 2; half++) {
      rq_vi bits = rv_and(rv_lookup(high, s->byte_of[half]), s->bit_of);
      w[half] = rv_or(w[half], rv_and(rv_equal8(bits, s->bit_of), s->sixteen));
    }
  }
  if (signed_values(kind))
    for (int32_t half = 0; half < 2; half++) w[half] = rv_lookup(s->table, w[half]);
}

/* Weights 32g .. 32g + 31 of a unit. */
RV_INLINE void load_group(ggml_kind kind, const rows_shared *s, const uint8_t *unit, int32_t g,
                          rq_vi *w /* (2) */) {
  if (small_blocks(kind) || kind == KIND_IQ4_XS) {
    load_block(kind, s, small_blocks(kind) ? unit + block_bytes(kind) * g : unit + 16 * g, w);
    return;
  }
  const uint8_t *codes = unit + codes_at(kind);
  for (int32_t half = 0; half < 2; half++) {
    const uint8_t *at = codes + 16 * half;
    if (kind == KIND_Q4_K || kind == KIND_Q5_K) {
      w[half] = field(rv_load(at + 32 * (g / 2)), 4 * (g % 2), 0, 15);
      if (kind == KIND_Q5_K) w[half] = rv_or(w[half], field(rv_load(unit + 16 + 16 * half), g, 4, 1));
    } else if (kind == KIND_Q6_K) {
      rq_vi low = field(rv_load(at + 64 * (g / 4) + 32 * (g % 2)), 4 * (g / 2 % 2), 0, 15);
      w[half] = rv_or(low, field(rv_load(at + 128 + 32 * (g / 4)), 2 * (g % 4), 4, 3));
    } else {
      w[half] = field(rv_load(at + 32 * (g / 4)), 2 * (g % 4), 0, 3);
      if (kind == KIND_Q3_K) w[half] = rv_or(w[half], field(rv_load(unit + 16 * half), g, 2, 1));
    }
  }
}

/* ---- scales ---- */

RV_INLINE rq_vf half_at(const rows_shared *s, const uint8_t *bytes) {
  rq_vi two = rv_splat32((int32_t)(uint32_t)rq_read_u16(bytes));
  return rf_from_f16_by(rv_shl32(two, 16), &s->half);
}
/* d and -dmin, one behind the other. */
RV_INLINE void half_pair(const rows_shared *s, const uint8_t *bytes, rq_vf *d, rq_vf *minus_dmin) {
  rq_vi two = rv_zip_low16(rv_zero(), rv_splat32((int32_t)rq_read_u32(bytes)));
  rq_vi both = rv_xor(rv_bits_of(rf_from_f16_by(two, &s->half)), s->minus);
  both = rv_zip_low32(both, both);
  *d = rf_of_bits(rv_zip_low64(both, both));
  *minus_dmin = rf_of_bits(rv_zip_high64(both, both));
}
/* Four int8, the lowest first. */
RV_INLINE rq_vi bytes_of(uint32_t word) {
#if defined(__SSE4_1__)
  return _mm_cvtepi8_epi32(_mm_cvtsi32_si128((int32_t)word));
#else
  return rv_widen_low16(rv_widen_low8(rv_splat32((int32_t)word)));
#endif
}

/* The 16-bit numbers at the same place of four blocks, each in the upper half of 32 bits. */
RV_INLINE rq_vi of_blocks(ggml_kind kind, const uint8_t *unit, int32_t at) {
  uint32_t bits[UNIT_BLOCKS];
  for (int32_t i = 0; i < UNIT_BLOCKS; i++)
    bits[i] = (uint32_t)rq_read_u16(unit + block_bytes(kind) * i + at) << 16;
  return rv_load(bits);
}

/* 2^(e - 128), MXFP4's scale, as the bits of an f32. */
RV_INLINE uint32_t exponent_bits(uint32_t e) { return e < 2 ? 0x00200000u << e : (e - 1) << 23; }

RV_INLINE void scales_of_blocks(ggml_kind kind, const uint8_t *unit, rq_vf *scale, rq_vf *offset) {
  if (kind == KIND_MXFP4) {
    uint32_t bits[UNIT_BLOCKS];
    for (int32_t i = 0; i < UNIT_BLOCKS; i++) bits[i] = exponent_bits(unit[block_bytes(kind) * i]);
    scale[0] = rf_of_bits(rv_load(bits));
    return;
  }
  scale[0] = rf_from_f16(of_blocks(kind, unit, 0));
  if (has_offsets(kind)) offset[0] = rf_from_f16(of_blocks(kind, unit, 2));
}

RV_INLINE void scales_of_q4_k(const rows_shared *s, const uint8_t *block, rq_vf *scale, rq_vf *offset) {
  rq_vf d, minus_dmin;
  half_pair(s, block, &d, &minus_dmin);
  uint32_t a = rq_read_u32(block + 4), b = rq_read_u32(block + 8), c = rq_read_u32(block + 12);
  const uint32_t six = 0x3F3F3F3F, low_four = 0x0F0F0F0F, top_two = 0x30303030;
  scale[0] = rf_mul(rf_from_i32(bytes_of(a & six)), d);
  scale[1] = rf_mul(rf_from_i32(bytes_of((c & low_four) | (a >> 2 & top_two))), d);
  offset[0] = rf_mul(rf_from_i32(bytes_of(b & six)), minus_dmin);
  offset[1] = rf_mul(rf_from_i32(bytes_of((c >> 4 & low_four) | (b >> 2 & top_two))), minus_dmin);
}

RV_INLINE void scales_of_q3_k(const rows_shared *s, const uint8_t *block, rq_vf *scale) {
  rq_vf d = half_at(s, block + 108);
  uint32_t a = rq_read_u32(block + 96), b = rq_read_u32(block + 100), c = rq_read_u32(block + 104);
  const uint32_t low_four = 0x0F0F0F0F, two = 0x03030303;
  uint32_t words[4] = {(a & low_four) | (c & two) << 4, (b & low_four) | (c >> 2 & two) << 4,
                       (a >> 4 & low_four) | (c >> 4 & two) << 4, (b >> 4 & low_four) | (c >> 6 & two) << 4};
  for (int32_t p = 0; p < 4; p++)
    scale[p] = rf_mul(rf_from_i32(rv_sub32(bytes_of(words[p]), rv_splat32(32))), d);
}

/* 16 int8 times d. */
RV_INLINE void scales_of_16(rq_vi bytes, rq_vf d, rq_vf *scale /* (4) */) {
  rq_vi low = rv_widen_low8(bytes), high = rv_widen_high8(bytes);
  scale[0] = rf_mul(rf_from_i32(rv_widen_low16(low)), d);
  scale[1] = rf_mul(rf_from_i32(rv_widen_high16(low)), d);
  scale[2] = rf_mul(rf_from_i32(rv_widen_low16(high)), d);
  scale[3] = rf_mul(rf_from_i32(rv_widen_high16(high)), d);
}

RV_INLINE void scales_of_iq4_xs(const rows_shared *s, const uint8_t *block, rq_vf *scale) {
  rq_vf d = half_at(s, block);
  uint32_t high = rq_read_u16(block + 2);
  int32_t numbers[8];
  for (int32_t p = 0; p < 8; p++)
    numbers[p] = (int32_t)((block[4 + p / 2] >> (4 * (p % 2)) & 15u) | (high >> (2 * p) & 3) << 4) - 32;
  scale[0] = rf_mul(rf_from_i32(rv_load(numbers)), d);
  scale[1] = rf_mul(rf_from_i32(rv_load(numbers + 4)), d);
}

/* Scales and offsets of unit `number`, four parts to a vector. Where the block has one scale only, it goes to
 * the place of its accumulator, and the others get 0. */
RV_INLINE void unit_scales_by(ggml_kind kind, const rows_shared *s, const uint8_t *unit, int32_t number,
                              rq_vf *scale, rq_vf *offset) {
  if (small_blocks(kind)) {
    scales_of_blocks(kind, unit, scale, offset);
  } else if (kind == KIND_Q4_K || kind == KIND_Q5_K) {
    scales_of_q4_k(s, unit, scale, offset);
  } else if (kind == KIND_Q3_K) {
    scales_of_q3_k(s, unit, scale);
  } else if (kind == KIND_Q6_K) {
    scales_of_16(rv_load(unit + 192), half_at(s, unit + 208), scale);
  } else if (kind == KIND_Q2_K) {
    rq_vi packed = rv_load(unit);
    rq_vf d, minus_dmin;
    half_pair(s, unit + 80, &d, &minus_dmin);
    scales_of_16(field(packed, 0, 0, 15), d, scale);
    scales_of_16(field(packed, 4, 0, 15), minus_dmin, offset);
  } else if (kind == KIND_IQ4_XS) {
    scales_of_iq4_xs(s, unit, scale);
  } else {
    float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    d[number % 4] = rq_read_f16(unit + 64);
    scale[0] = rf_load(d);
  }
}

/* ---- integers ---- */

/* 16 weights in the form that multiply takes. Where the target multiplies no bytes, activations come as e and
 * o - 256 e, with e in the even and o in the odd places. A pair of weights (low, high) then needs no taking
 * apart: (low + 256 high) e + high (o - 256 e) = low e + high o. Negative low ones cost a correction, because
 * the byte says low + 256. */
RV_INLINE void widen(ggml_kind kind, rq_vi w, rq_vi *out /* (RQ_STEP_VECTORS) */) {
  out[0] = w;
#if RQ_LANES_WIDE
  out[1] = rv_shr16(w, 8);
  if (signed_values(kind)) {
    rq_vi negative = rv_and(w, wasm_i16x8_const_splat(128));
    out[0] = wasm_i16x8_sub(w, rv_shl16(negative, 1));
    out[1] = rv_sar16(w, 8);
  }
#else
  (void)kind;
#endif
}

/* acc + products of one vector of `widen` with activations, in four sums of no particular order. */
RV_INLINE rq_vi multiply(ggml_kind kind, rq_vi acc, rq_vi w, rq_vi q) {
#if !RQ_LANES_WIDE && !defined(__ARM_FEATURE_DOTPROD)
  if (signed_values(kind)) {
#if defined(__SSE4_1__)
    /* |w| * (q with the sign of w): pairs stay below 2 * 127 * 127 < 2^15. */
    __m128i pairs = _mm_maddubs_epi16(_mm_abs_epi8(w), _mm_sign_epi8(q, w));
    return _mm_add_epi32(acc, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
#else
    rq_vi low = rv_dot16(rv_widen_low8(w), rv_widen_low8(q));
    return rv_add32(acc, rv_add32(low, rv_dot16(rv_widen_high8(w), rv_widen_high8(q))));
#endif
  }
#endif
  (void)kind;
  return rv_multiply_add(acc, w, q);
}

RV_INLINE void unit_scales(ggml_kind kind, const uint8_t *unit, int32_t number, rq_vf *scale, rq_vf *offset) {
  rows_shared s = rows_shared_of(kind);
  unit_scales_by(kind, &s, unit, number, scale, offset);
}

/* ---- sums of products; `pairs` (rv_in_pairs) is a constant ---- */

/* With `pairs` sums are i16, eight for each part. Codes are below 32 for parts of 32, below 64 for those of
 * 16, so that two such sums still fit. */
RV_INLINE rq_vi add_vector(ggml_kind kind, bool pairs, rq_vi acc, rq_vi w, const int8_t *step) {
  if (pairs) return rv_add16(acc, rv_pairs8(w, rv_load(step)));
  rq_vi wide[RQ_STEP_VECTORS];
  widen(kind, w, wide);
  for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) acc = multiply(kind, acc, wide[v], rv_load(step + 16 * v));
  return acc;
}

#endif
#endif
