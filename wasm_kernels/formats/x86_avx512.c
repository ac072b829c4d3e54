/* x86_avx512.c: ruvq's own formats with AVX-512 VBMI and VNNI: four rows at a time, their blocks decoded once
 * for all vectors. A register holds four steps of all 16 lanes, step by step within a lane
 * (rq_activations.quads); one instruction cuts the indices of 64 weights out of their bytes, and one looks
 * all of them up. */
#include "x86.h"

#if RQ_HAVE_X86
#include <immintrin.h>

#include "simd_blocks.h"

RQ_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,f16c")

enum { ROWS = 4, GROUPS_OF_STEPS = 4, QUAD_BYTES = 64 };

/* What decoding needs. An index is h << 2 | h before, and for 3-bit codes 16 times their lowest bit. */
typedef struct wide_tables {
  __m512i value;                   /* (64) unsigned weights by index, repeated */
  __m512i spread[GROUPS_OF_STEPS]; /* byte before and byte of two lanes into each 64 bits */
  __m512i index_bits;              /* where the four indices of a lane begin there */
  __m512i spread_low[2];           /* bytes of two lanes of the 1-bit plane into each 64 bits */
  __m512i low_bits[2];             /* where they begin, so that the bit itself has the value 16 */
  __m512 c;                        /* (4) C[k], repeated */
} wide_tables;

/* For lanes 2p and 2p + 1: the byte before and the byte of each, from 16 bytes at `b` and at `c`; twice, to
 * fill 64 bits. In the first group of steps the byte before is that of the lane below. */
#define FOUR(p, b, c) (b) + 2 * (p), (c) + 2 * (p), (b) + 2 * (p) + 1, (c) + 2 * (p) + 1
#define PAIR(p, b, c) FOUR(p, b, c), FOUR(p, b, c)
#define PAIRS(b, c)                                                                                        \
  PAIR(0, b, c), PAIR(1, b, c), PAIR(2, b, c), PAIR(3, b, c), PAIR(4, b, c), PAIR(5, b, c), PAIR(6, b, c), \
      PAIR(7, b, c)
#define FIRST(p) 47 + 2 * (p), 2 * (p), 48 + 2 * (p), 2 * (p) + 1
static const _Alignas(64) uint8_t spread_bytes[GROUPS_OF_STEPS][64] = {
    {63,       0,        48,       1,        63,       0,        48,       1,
     FIRST(1), FIRST(1), FIRST(2), FIRST(2), FIRST(3), FIRST(3), FIRST(4), FIRST(4),
     FIRST(5), FIRST(5), FIRST(6), FIRST(6), FIRST(7), FIRST(7)},
    {PAIRS(0, 16)},
    {PAIRS(16, 32)},
    {PAIRS(32, 48)},
};
#define LOW(p, b) (b) + 2 * (p), (b) + 2 * (p) + 1, 0, 0, 0, 0, 0, 0
#define LOWS(b) LOW(0, b), LOW(1, b), LOW(2, b), LOW(3, b), LOW(4, b), LOW(5, b), LOW(6, b), LOW(7, b)
static const _Alignas(64) uint8_t spread_low_bytes[2][64] = {{LOWS(0)}, {LOWS(16)}};

/* Eight places within 64 bits, the first in the lowest byte. */
#define INDEX_PLACES 0x1C1A18160C0A0806      /* 6 + 2 j and 22 + 2 j */
#define LOW_PLACES_FIRST 0x070605043F3E3D3C  /* 60 + j (that is j - 4) and 4 + j */
#define LOW_PLACES_SECOND 0x0B0A090803020100 /* 4 further on */

/* (64) by index 16 * lowest + 4 h + before; of a 2-bit code there is no lowest bit, and all four parts are
 * equal. */
RV_INLINE __m512i values_of(const rq_own *own) {
  if (own->trellis && own->three_bits) {
    __m256i t3 =
        _mm256_loadu_si256((const __m256i *)(const void *)own->table); /* 4 * (2 h + lowest) + before */
    t3 = _mm256_permutevar8x32_epi32(t3, _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0));
    return _mm512_broadcast_i32x8(_mm256_add_epi8(t3, _mm256_set1_epi8(64)));
  }
  if (own->trellis) {
    __m128i t2 = _mm_loadu_si128((const __m128i *)(const void *)own->table);
    return _mm512_broadcast_i32x4(_mm_add_epi8(t2, _mm_set1_epi8(64)));
  }
  __m128i h = _mm_set_epi32(0x03030303, 0x02020202, 0x01010101, 0);
  if (!own->three_bits) return _mm512_broadcast_i32x4(h);
  __m128i even = _mm_add_epi8(h, h), odd = _mm_add_epi8(even, _mm_set1_epi8(1));
  return _mm512_broadcast_i32x8(_mm256_set_m128i(odd, even));
}

RV_INLINE wide_tables tables_of(const rq_own *own) {
  wide_tables t = {.value = values_of(own), .index_bits = _mm512_set1_epi64(INDEX_PLACES)};
  for (int32_t g = 0; g < GROUPS_OF_STEPS; g++) t.spread[g] = _mm512_load_si512(spread_bytes[g]);
  for (int32_t h = 0; h < 2; h++) t.spread_low[h] = _mm512_load_si512(spread_low_bytes[h]);
  t.low_bits[0] = _mm512_set1_epi64(LOW_PLACES_FIRST);
  t.low_bits[1] = _mm512_set1_epi64(LOW_PLACES_SECOND);
  t.c = own->trellis ? _mm512_broadcast_f32x4(_mm_loadu_ps(own->c)) : _mm512_setzero_ps();
  return t;
}

/* The planes of a block in registers. `first` is the 2-bit plane as its first group of steps reads it: with
 * the last code of every lane in the highest bits of the fourth 16 bytes. */
typedef struct planes {
  __m512i first, others, low;
} planes;

RV_INLINE planes full_planes(bool three_bits, const uint8_t *block) {
  planes p;
  p.first = p.others = _mm512_loadu_si512(block);
  p.low = three_bits ? _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(block + 64)))
                     : _mm512_setzero_si512();
  return p;
}

RV_INLINE planes tail_planes(bool three_bits, const uint8_t *block, int32_t steps) {
  int32_t groups = (steps + 3) / 4, last = (steps - 1) % 4;
  planes p;
  p.others = _mm512_maskz_loadu_epi8(~(__mmask64)0 >> (64 - 16 * groups), block);
  __m128i before = _mm_loadu_si128((const __m128i *)(block + 16 * (groups - 1)));
  before = _mm_sll_epi16(before, _mm_cvtsi32_si128(6 - 2 * last));
  p.first = _mm512_inserti32x4(p.others, before, 3);
  p.low = _mm512_setzero_si512();
  if (!three_bits) return p;
  const uint8_t *plane1 = block + 16 * groups;
  __m128i low = _mm_setzero_si128(), high = low;
  int32_t left = steps % 8;
  __m128i part = low;
  if (left > 4) part = _mm_loadu_si128((const __m128i *)(plane1 + 16 * (steps / 8)));
  if (left >= 1 && left <= 4) { /* two lanes share a byte: the first eight have its low half */
    part = _mm_loadl_epi64((const __m128i *)(plane1 + 16 * (steps / 8)));
    part = _mm_unpacklo_epi64(part, _mm_srli_epi16(part, 4));
  }
  if (steps >= 8) low = _mm_loadu_si128((const __m128i *)plane1);
  if (steps == 16)
    high = _mm_loadu_si128((const __m128i *)(plane1 + 16));
  else if (steps > 8)
    high = part;
  else if (steps < 8)
    low = part;
  p.low = _mm512_inserti32x4(_mm512_castsi128_si512(low), high, 1);
  return p;
}

/* Unsigned weights of group g (a constant). */
RV_INLINE __m512i decode_group(bool three_bits, const wide_tables *t, const planes *p, int32_t g) {
  __m512i bytes = g == 0 ? _mm512_maskz_permutexvar_epi8(~(__mmask64)1, t->spread[0], p->first)
                         : _mm512_permutexvar_epi8(t->spread[g], p->others);
  __m512i index = _mm512_multishift_epi64_epi8(t->index_bits, bytes);
  if (three_bits) {
    __m512i low = _mm512_permutexvar_epi8(t->spread_low[g / 2], p->low);
    low = _mm512_multishift_epi64_epi8(t->low_bits[g % 2], low);
    index = _mm512_ternarylogic_epi64(_mm512_set1_epi8(15), index, low, 0xCA); /* 15 ? index : low */
  }
  return _mm512_permutexvar_epi8(index,
                                 t->value); /* the two highest bits don't count, nor does bit 5 there */
}

/* D of four rows: (group of lanes, row). */
RV_INLINE __m512 scales_of_rows(bool trellis, const wide_tables *t, const uint8_t *const *headers) {
  __m128i h = _mm_cvtsi32_si128((int32_t)rq_read_u16(headers[0]));
  if (!trellis) {
    h = _mm_insert_epi16(h, rq_read_u16(headers[1]), 1);
    h = _mm_insert_epi16(h, rq_read_u16(headers[2]), 2);
    h = _mm_insert_epi16(h, rq_read_u16(headers[3]), 3);
    return _mm512_broadcast_f32x4(_mm_cvtph_ps(h));
  }
  h = _mm_insert_epi32(h, rq_read_u16(headers[1]), 1);
  h = _mm_insert_epi32(h, rq_read_u16(headers[2]), 2);
  h = _mm_insert_epi32(h, rq_read_u16(headers[3]), 3);
  __m128i bits = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(255)), 20); /* as in simd_blocks.h */
  __m128 alpha = _mm_mul_ps(_mm_castsi128_ps(bits), _mm_set1_ps(0x1p102f));
  const __m512i shift = _mm512_set_epi32(14, 14, 14, 14, 12, 12, 12, 12, 10, 10, 10, 10, 8, 8, 8, 8);
  __m512i k = _mm512_srlv_epi32(_mm512_broadcast_i32x4(h), shift); /* two bits count */
  return _mm512_mul_ps(_mm512_broadcast_f32x4(alpha), _mm512_permutexvar_ps(k, t->c));
}

/* Sums of each four adjacent i32 of four registers: (group of lanes, row). */
RV_INLINE __m512i sums_of_rows(const __m512i *s) {
  __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]), _mm512_unpackhi_epi32(s[0], s[1]));
  __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]), _mm512_unpackhi_epi32(s[2], s[3]));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}

/* One block of four rows times `count` vectors. */
RV_INLINE void add_blocks(const rq_own *own, const wide_tables *t, const uint8_t *const *blocks, int32_t r,
                          bool full, int32_t groups, const rq_activations *a, int32_t count, int32_t number,
                          __m512 *acc /* (count) */) {
  __m512i weights[ROWS][GROUPS_OF_STEPS];
  const uint8_t *headers[ROWS];
  int32_t header = rq_own_block_bytes(own, r) - 2;
  for (int32_t i = 0; i < ROWS; i++) {
    planes p = full ? full_planes(own->three_bits, blocks[i])
                    : tail_planes(own->three_bits, blocks[i], rq_block_steps(r));
    for (int32_t g = 0; g < groups; g++) weights[i][g] = decode_group(own->three_bits, t, &p, g);
    headers[i] = blocks[i] + header;
  }
  __m512 d = scales_of_rows(own->trellis, t, headers);
  const __m512i group_of = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  for (int32_t v = 0; v < count; v++) {
    const int8_t *quads = a[v].quads + RQ_BLOCK * (size_t)number;
    __m512i sums[ROWS];
    for (int32_t i = 0; i < ROWS; i++) sums[i] = _mm512_setzero_si512();
    for (int32_t g = 0; g < groups; g++) {
      __m512i q = _mm512_loadu_si512(quads + QUAD_BYTES * g);
      for (int32_t i = 0; i < ROWS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], weights[i][g], q);
    }
    __m128i over = _mm_loadu_si128((const __m128i *)(a[v].group_sum + RQ_GROUPS * number));
    over = _mm_slli_epi32(over, shift_of(own));
    __m512i exact = _mm512_sub_epi32(sums_of_rows(sums),
                                     _mm512_permutexvar_epi32(group_of, _mm512_castsi128_si512(over)));
    __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(a[v].scale[number]));
    acc[v] = _mm512_add_ps(acc[v], _mm512_mul_ps(_mm512_cvtepi32_ps(exact), scale));
  }
}

RV_INLINE void four_rows(const rq_own *own, const wide_tables *t, const uint8_t **blocks, int32_t rows,
                         const rq_activations *a, int32_t count, float *y, size_t stride) {
  __m512 acc[RQ_KERNEL_VECTORS];
  for (int32_t v = 0; v < count; v++) acc[v] = _mm512_setzero_ps();
  int32_t full = a->width / RQ_BLOCK, tail = a->width % RQ_BLOCK;
  size_t bytes = own->three_bits ? sizeof(rq_block_3bit) : sizeof(rq_block_2bit);
  for (int32_t b = 0; b < full; b++) {
    add_blocks(own, t, blocks, RQ_BLOCK, true, GROUPS_OF_STEPS, a, count, b, acc);
    for (int32_t i = 0; i < ROWS; i++) blocks[i] += bytes;
  }
  switch (tail ? (rq_block_steps(tail) + 3) / 4 : 0) { /* constants, so that weights stay in registers */
    case 1: add_blocks(own, t, blocks, tail, false, 1, a, count, full, acc); break;
    case 2: add_blocks(own, t, blocks, tail, false, 2, a, count, full, acc); break;
    case 3: add_blocks(own, t, blocks, tail, false, 3, a, count, full, acc); break;
    case 4: add_blocks(own, t, blocks, tail, false, 4, a, count, full, acc); break;
    default: break;
  }
  for (int32_t v = 0; v < count; v++) {
    __m128 low = _mm_add_ps(_mm512_castps512_ps128(acc[v]), _mm512_extractf32x4_ps(acc[v], 1));
    __m128 high = _mm_add_ps(_mm512_extractf32x4_ps(acc[v], 2), _mm512_extractf32x4_ps(acc[v], 3));
    _mm_mask_storeu_ps(y + stride * (size_t)v, (__mmask8)((1 << rows) - 1), _mm_add_ps(low, high));
  }
}

RV_INLINE void product(const rq_own *own, const uint8_t *data, size_t row_bytes, int32_t rows,
                       const rq_activations *a, int32_t count, float *y, size_t stride) {
  wide_tables t = tables_of(own);
  for (int32_t r = 0; r < rows; r += ROWS) {
    const uint8_t *blocks[ROWS];
    for (int32_t i = 0; i < ROWS; i++) blocks[i] = data + row_bytes * (size_t)rq_min_i32(r + i, rows - 1);
    int32_t there = rq_min_i32(ROWS, rows - r);
    if (count == 1)
      four_rows(own, &t, blocks, there, a, 1, y + r, stride);
    else
      four_rows(own, &t, blocks, there, a, count, y + r, stride);
  }
}

/* The constants of `own` are spelled out, so that the compiler sees them. */
#define DEFINE_PRODUCT(name, ...)                              \
  RQ_PRODUCT(name##_avx512) {                                  \
    const rq_own own = {__VA_ARGS__};                          \
    product(&own, data, row_bytes, rows, a, count, y, stride); \
  }
DEFINE_PRODUCT(pi_q3, true, false, 4, NULL, NULL, NULL, NULL)
DEFINE_PRODUCT(pi_q2, false, false, 2, NULL, NULL, NULL, NULL)
DEFINE_PRODUCT(pi_t3, true, true, 0, rq_trellis_t3, rq_trellis_c3, NULL, NULL)
DEFINE_PRODUCT(pi_t2, false, true, 0, rq_trellis_t2, rq_trellis_c2, NULL, NULL)
DEFINE_PRODUCT(ternary, false, false, 1, NULL, NULL, NULL, NULL)

RQ_TARGET_END

#else
typedef int rq_no_avx512; /* a translation unit must not be empty */
#endif
