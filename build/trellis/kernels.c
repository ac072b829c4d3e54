/* kernels.c: what decoding costs: products of rows with one vector of activations, for the candidates of
 * build/format_search.py. Compiled by kernels.py for both hosts, one module for each KIND; not part of the
 * engine.
 *
 * Planes, lanes and steps are those of docs/formats.md, blocks of 256 without a header, so that only codes
 * are compared. Tables are made up: they come from outside, like the weights, and no time depends on them.
 * i(t) is the index of the 2-bit plane at step t: its code there << 2 | the one before; m(t) the four latest
 * bits of the 1-bit plane. Two rows share the loads of the activations, as in
 * wasm_kernels/formats/simd_rows.c. */
#include <stddef.h>

#include "simd.h"

enum {
  PI_T2,        /* A[i(t)] */
  PI_T3,        /* A[i(t)] ^ C[i(t)] where the lowest bit is 0 */
  TWO_BEFORE,   /* A[i(t)] + B[i(t-1)] */
  TWO_MIXED,    /* A[i(t)] + B[i(t) ^ i(t-2)] */
  TWO_SWAPPED,  /* A[i(t)] + B[i(t) with its codes swapped ^ i(t-2)]; the swap is a lookup too */
  TWO_16,       /* A[i(t) ^ the third code] + B[i(t)] */
  TWO_FREE,     /* any value for 6 bits: four lookups */
  THREE_PLANES, /* A[i(t)] + B[m(t)] */
  THREE_MIXED,  /* A[i(t)] + B[m(t) ^ i(t-1)] */
  THREE_CROSSED, /* A[i(t)] + B[m(t), the oldest bit highest, ^ i(t-1)]; a lookup turns four bits of m round */
  THREE_FREE,   /* any value for i(t) and three bits of m(t): eight lookups */
  TWO_HASH      /* 1MAD: the sum of the bytes of 16 bits times a number of 32 */
};
#ifndef KIND
#error "KIND says which"
#endif
enum { STEPS = 16, ROWS = 2, THREE_BITS = KIND == PI_T3 || (KIND >= THREE_PLANES && KIND <= THREE_FREE) };
enum { PLANES = THREE_BITS ? 96 : 64, TABLES = 8 };
/* A of the pi formats is turned round for the first step of four: two instructions less. */
enum { TURNED = KIND == PI_T2 || KIND == PI_T3 || KIND == THREE_PLANES };

/* What is left of the steps before. */
typedef struct past {
  rq_vi codes, low; /* bytes of the planes */
  rq_vi older, old; /* i(t-2), i(t-1) */
  rq_vi far;        /* bytes of the group before the last one */
} past;

typedef struct masks {
  rq_vi two, four, upper, top, ones, rest;
} masks;

RV_INLINE rq_vi table_sum(const rq_vi *tables, int32_t count, rq_vi index) {
  rq_vi sum = rv_lookup_or_zero(tables[0], index);
  for (int32_t n = 1; n < count; n++) {
    index = rv_sub8(index, rv_splat8(16)); /* beyond a table the result is 0 */
    sum = rv_or(sum, rv_lookup_or_zero(tables[n], index));
  }
  return sum;
}

/* i of the four steps of a group. */
RV_INLINE void plane2_indices(const masks *m, rq_vi bytes, rq_vi before, rq_vi *i) {
  if (TURNED)
    i[0] = rv_or(rv_and(rv_shr16(before, 4), m->upper), rv_and(bytes, m->two));
  else
    i[0] = rv_or(rv_and(rv_shl16(bytes, 2), m->upper), rv_and(rv_shr16(before, 6), m->two));
  i[1] = rv_and(bytes, m->four);
  i[2] = rv_and(rv_shr16(bytes, 2), m->four);
  i[3] = rv_and(rv_shr16(bytes, 4), m->four);
}

/* m of the four steps of an even or an odd group, both in the same byte of the 1-bit plane. */
RV_INLINE void plane1_indices(const masks *m, bool odd, rq_vi bits, rq_vi before, rq_vi *i) {
  rq_vi all = odd ? rv_shr16(bits, 1)
                  : rv_or(rv_and(rv_shl16(bits, 3), m->rest), rv_and(rv_shr16(before, 5), rv_splat8(7)));
  i[0] = rv_and(all, m->four);
  i[1] = rv_and(rv_shr16(all, 1), m->four);
  i[2] = rv_and(rv_shr16(all, 2), m->four);
  i[3] = rv_and(rv_shr16(all, 3), m->four);
}

/* The same with the oldest bit highest. */
RV_INLINE void plane1_turned(const masks *m, rq_vi turn, bool odd, rq_vi bits, rq_vi *before, rq_vi *i) {
  rq_vi turned = rv_lookup(turn, rv_and(odd ? rv_shr16(bits, 4) : bits, m->four));
  rq_vi all = rv_or(rv_shl16(*before, 4), turned);
  for (int32_t j = 0; j < 4; j++) i[j] = rv_and(j == 3 ? all : rv_shr16(all, 3 - j), m->four);
  *before = turned;
}

#if defined(__wasm_simd128__)
RV_INLINE rq_vi byte_sums(rq_vi v) {
  return wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(v));
}
RV_INLINE rq_vi multiply32(rq_vi a, rq_vi b) { return wasm_i32x4_mul(a, b); }
#define shift_right32(v, n) wasm_u32x4_shr(v, n)
#else
RV_INLINE rq_vi byte_sums(rq_vi v) {
  return _mm_madd_epi16(_mm_maddubs_epi16(v, _mm_set1_epi8(1)), _mm_set1_epi16(1));
}
RV_INLINE rq_vi multiply32(rq_vi a, rq_vi b) { return _mm_mullo_epi32(a, b); }
#define shift_right32(v, n) _mm_srli_epi32(v, n)
#endif

/* Weights of one step of 1MAD: `wide` has 24 bits of each lane. */
RV_INLINE rq_vi hashed(const rq_vi *wide, int32_t j) {
  rq_vi sums[4];
  for (int32_t v = 0; v < 4; v++) {
    rq_vi window = rv_and(shift_right32(wide[v], 2 + 2 * j), rv_splat32(0xFFFF));
    sums[v] = byte_sums(rv_add32(multiply32(window, rv_splat32(34038481)), rv_splat32(76625530)));
  }
  rq_vi low = rv_sar16(rv_pack32(sums[0], sums[1]), 3), high = rv_sar16(rv_pack32(sums[2], sums[3]), 3);
  return rv_pack16(low, high); /* 0..127 */
}

/* Unsigned weights of the four steps of the even (g = 0) or odd group of eight. */
RV_INLINE void group_weights(const rq_vi *tables, const masks *m, const uint8_t *plane2,
                             const uint8_t *plane1, int32_t g, past *p, rq_vi *weights) {
  rq_vi bytes = rv_load(plane2 + 16 * g), i[4], low[4], bits = rv_zero();
  if (KIND != TWO_HASH) plane2_indices(m, bytes, p->codes, i);
  if (THREE_BITS) bits = rv_load(plane1);
  if (KIND == THREE_CROSSED)
    plane1_turned(m, tables[2], g % 2 != 0, bits, &p->low, low);
  else if (THREE_BITS && KIND != PI_T3)
    plane1_indices(m, g % 2 != 0, bits, p->low, low);
  if (KIND == PI_T3 && g % 2 == 0) bits = rv_shl16(bits, 4);
  rq_vi wide[4];
  if (KIND == TWO_HASH) { /* three bytes of each lane together */
    rq_vi a = rv_zip_low8(p->far, p->codes), b = rv_zip_low8(bytes, rv_zero());
    rq_vi c = rv_zip_high8(p->far, p->codes), d = rv_zip_high8(bytes, rv_zero());
    wide[0] = rv_zip_low16(a, b);
    wide[1] = rv_zip_high16(a, b);
    wide[2] = rv_zip_low16(c, d);
    wide[3] = rv_zip_high16(c, d);
  }
  for (int32_t j = 0; j < 4; j++) {
    rq_vi a = tables[TURNED && j == 0 ? 1 : 0];
    if (KIND == PI_T2) weights[j] = rv_lookup(a, i[j]);
    if (KIND == PI_T3) {
      rq_vi out = rv_and(j == 3 ? bits : rv_shl16(bits, 3 - j), m->top);
      weights[j] = rv_xor(rv_lookup(a, i[j]), rv_lookup(tables[j == 0 ? 3 : 2], rv_or(i[j], out)));
    }
    if (KIND == TWO_BEFORE) weights[j] = rv_add8(rv_lookup(a, i[j]), rv_lookup(tables[1], p->old));
    if (KIND == TWO_MIXED)
      weights[j] = rv_add8(rv_lookup(a, i[j]), rv_lookup(tables[1], rv_xor(i[j], p->older)));
    if (KIND == TWO_SWAPPED)
      weights[j] =
          rv_add8(rv_lookup(a, i[j]), rv_lookup(tables[1], rv_xor(rv_lookup(tables[2], i[j]), p->older)));
    if (KIND == TWO_16)
      weights[j] =
          rv_add8(rv_lookup(a, rv_xor(i[j], rv_and(p->older, m->upper))), rv_lookup(tables[1], i[j]));
    if (KIND == TWO_FREE) { /* the third code is the upper half of i(t-2) */
      rq_vi third = rv_and(rv_shl16(p->older, 2), rv_splat8(48));
      weights[j] = table_sum(tables, 4, rv_or(i[j], third));
    }
    if (KIND == THREE_PLANES) weights[j] = rv_add8(rv_lookup(a, i[j]), rv_lookup(tables[2], low[j]));
    if (KIND == THREE_MIXED || KIND == THREE_CROSSED)
      weights[j] = rv_add8(rv_lookup(a, i[j]), rv_lookup(tables[1], rv_xor(low[j], p->old)));
    if (KIND == THREE_FREE)
      weights[j] = table_sum(tables, 8, rv_or(i[j], rv_and(rv_shl16(low[j], 3), rv_splat8(112))));
    if (KIND == TWO_HASH) weights[j] = hashed(wide, j);
    if (KIND != TWO_HASH) {
      p->older = p->old;
      p->old = i[j];
    }
  }
  p->far = p->codes;
  p->codes = bytes;
  if (g % 2 && KIND != THREE_CROSSED) p->low = bits;
}

RV_INLINE past no_past(void) {
  past p = {rv_zero(), rv_zero(), rv_zero(), rv_zero(), rv_zero()};
  return p;
}

RV_INLINE masks make_masks(void) {
  masks m = {rv_splat8(3), rv_splat8(15), rv_splat8(12), rv_splat8(-128), rv_splat16(1), rv_splat8(-8)};
  return m;
}

/* Decoding alone, for counting instructions: eight steps of the middle of a block. */
__attribute__((visibility("default"))) void decode_eight(const rq_vi *tables, const uint8_t *block, past *p,
                                                         const masks *m, rq_vi *weights) {
  group_weights(tables, m, block, block + 64, 0, p, weights);
  group_weights(tables, m, block, block + 64, 1, p, weights + 4);
}

/* `rows` rows of `blocks` blocks times the activations `x` of one block after another, in lanes. */
__attribute__((visibility("default"))) int32_t products(const uint8_t *table_bytes, const uint8_t *data,
                                                        int32_t rows, int32_t blocks, const uint8_t *x) {
  rq_vi tables[TABLES];
  for (int32_t n = 0; n < TABLES; n++) tables[n] = rv_load(table_bytes + 16 * n);
  masks m = make_masks();
  rq_vi all = rv_zero();
  bool pairs = rv_in_pairs();
  for (int32_t r = 0; r + ROWS <= rows; r += ROWS)
    for (int32_t b = 0; b < blocks; b++) {
      past p[ROWS];
      const uint8_t *block[ROWS];
      for (int32_t i = 0; i < ROWS; i++) {
        p[i] = no_past();
        block[i] = data + (size_t)PLANES * (size_t)((r + i) * blocks + b);
      }
      const uint8_t *q = x + RQ_STEP_BYTES * STEPS * b;
      RV_ROLLED
      for (int32_t half = 0; half < 2; half++)
        for (int32_t g = 0; g < 2; g++, q += RQ_STEP_BYTES * 4) {
          rq_vi weights[ROWS][4];
          for (int32_t i = 0; i < ROWS; i++)
            group_weights(tables, &m, block[i] + 32 * half, block[i] + 64 + 16 * half, g, &p[i], weights[i]);
          for (int32_t j = 0; j < 4; j++)
            for (int32_t i = 0; i < ROWS; i++) {
              rq_vi wide[RQ_STEP_VECTORS];
              rv_widen_step(weights[i][j], wide);
              for (int32_t v = 0; v < RQ_STEP_VECTORS; v++) {
                rq_vi a = rv_load(q + RQ_STEP_BYTES * j + 16 * v);
                all = pairs ? rv_add32(all, rv_dot16(rv_pairs8(wide[v], a), m.ones))
                            : rv_multiply_add(all, wide[v], a);
              }
            }
        }
    }
  int32_t out[4];
  rv_store(out, all);
  return out[0] + out[1] + out[2] + out[3];
}
