/* x86_avx2.c: products with AVX2: ruvq's own formats two rows and two steps of all lanes at a time, Q8_0 by
 * blocks of 32 weights. */
#include "x86.h"

#if RQ_HAVE_X86
#include <immintrin.h>

#include "foreign.h"
#include "simd_mixed.h"

RQ_TARGET_BEGIN("avx2,f16c")

enum { ROWS = 2, PAIRS_OF_STEPS = 8 };

/* ---- ruvq's own formats ---- */

/* Tables for an index h << 2 | h before: unsigned weights with a lowest bit of 0, and how it changes them; of
 * mixed trellises A + 64 and B. */
typedef struct pair_tables {
  __m256i value, change;
} pair_tables;

RV_INLINE __m256i twice(const void *table /* (16) */) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
}

RV_INLINE pair_tables tables_of(const rq_own *own) {
  uint8_t value[16], change[16];
  for (int32_t i = 0; i < 16; i++) {
    int32_t h = i >> 2, before = i & 3;
    if (own->mixed) {
      value[i] = (uint8_t)(own->mixed[0][i] + 64);
      change[i] = (uint8_t)own->mixed[1][i];
      continue;
    }
    int32_t low = own->three_bits ? 2 * h : h, high = 2 * h + 1; /* codes */
    uint8_t first = (uint8_t)(own->trellis ? own->table[4 * low + before] + 64 : low);
    value[i] = first;
    change[i] = 0;
    if (own->three_bits)
      change[i] = (uint8_t)((own->trellis ? own->table[4 * high + before] + 64 : high) ^ first);
  }
  pair_tables t = {twice(value), twice(change)};
  return t;
}

/* Weights of the two steps whose indices are given. Where a low bit, inverted, is set under `bits`, the index
 * leaves the table of changes. */
RV_INLINE __m256i pick_pair(bool three_bits, const pair_tables *t, __m256i index, __m256i low, __m256i bits) {
  __m256i weights = _mm256_shuffle_epi8(t->value, index);
  if (!three_bits) return weights;
  __m256i outside =
      _mm256_adds_epu8(_mm256_or_si256(index, _mm256_and_si256(low, bits)), _mm256_set1_epi8(0x70));
  return _mm256_xor_si256(weights, _mm256_shuffle_epi8(t->change, outside));
}

/* Unsigned weights of one block, two steps in a register: (8). */
RV_INLINE void decode_block(bool three_bits, bool trellis, const pair_tables *t, const uint8_t *block,
                            int32_t steps, __m256i *weights) {
  int32_t groups = (steps + 3) / 4;
  rq_vi before = trellis ? before_first(block, steps) : rv_zero();
  const __m256i shift = _mm256_set_epi32(4, 4, 4, 4, 2, 2, 2, 2), nibble = _mm256_set1_epi8(15);
  const __m256i bits01 =
      _mm256_set_epi64x(0x2020202020202020, 0x2020202020202020, 0x1010101010101010, 0x1010101010101010);
  const __m256i bits23 = _mm256_slli_epi16(bits01, 2); /* 0x40 and 0x80 */
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g);
    rq_vi turned =
        rv_or(rv_and(rv_shl16(bytes, 2), rv_splat8(12)), rv_and(rv_shr16(before, 6), rv_splat8(3)));
    __m256i index01 =
        _mm256_inserti128_si256(_mm256_castsi128_si256(turned), rv_and(bytes, rv_splat8(15)), 1);
    __m256i both = _mm256_broadcastsi128_si256(bytes);
    __m256i index23 = _mm256_and_si256(_mm256_srlv_epi32(both, shift), nibble);
    __m256i low = _mm256_setzero_si256();
    if (three_bits)
      low = _mm256_broadcastsi128_si256(rv_xor(low_bits_of(block + 16 * groups, steps, g), rv_splat8(-1)));
    weights[2 * g] = pick_pair(three_bits, t, index01, low, bits01);
    weights[2 * g + 1] = pick_pair(three_bits, t, index23, low, bits23);
    before = bytes;
  }
}

/* Of two registers of two steps each, the older first, the two steps that lie one before the newer. */
RV_INLINE __m256i one_before(__m256i older, __m256i newer) {
  return _mm256_permute2x128_si256(older, newer, 0x21);
}

/* The same of a mixed trellis. */
RV_INLINE void decode_mixed(const rq_own *own, const pair_tables *t, const uint8_t *block, int32_t steps,
                            __m256i *weights) {
  const __m256i nibble = _mm256_set1_epi8(15), shift = _mm256_set_epi32(4, 4, 4, 4, 2, 2, 2, 2);
  const __m256i places[2] = {_mm256_set_epi32(2, 2, 2, 2, 3, 3, 3, 3),
                             _mm256_set_epi32(0, 0, 0, 0, 1, 1, 1, 1)};
  int32_t groups = (steps + 3) / 4;
  mixed_tables tables = mixed_tables_of(own);
  const __m256i turn = _mm256_broadcastsi128_si256(tables.turn);
  mixed_past p = mixed_past_of(own->three_bits, own, &tables, block, steps);
  __m256i before = _mm256_set_m128i(p.last, p.older); /* the indices of the two steps before */
  for (int32_t g = 0; g < groups; g++) {
    rq_vi bytes = rv_load(block + 16 * g);
    rq_vi first = rv_and(rv_shr16(_mm256_extracti128_si256(before, 1), 2), tables.two);
    first = rv_or(rv_and(rv_shl16(bytes, 2), tables.upper), first);
    __m256i index[2] = {
        _mm256_set_m128i(rv_and(bytes, tables.four), first),
        _mm256_and_si256(_mm256_srlv_epi32(_mm256_broadcastsi128_si256(bytes), shift), nibble),
    };
    __m256i low = _mm256_setzero_si256();
    if (own->three_bits)
      low = _mm256_broadcastsi128_si256(mixed_low(&tables, block + 16 * groups, steps, g, &p));
    for (int32_t i = 0; i < 2; i++) {
      __m256i other = own->three_bits
                          ? _mm256_xor_si256(_mm256_and_si256(_mm256_srlv_epi32(low, places[i]), nibble),
                                             one_before(before, index[i]))
                          : _mm256_xor_si256(_mm256_shuffle_epi8(turn, index[i]), before);
      weights[2 * g + i] =
          _mm256_add_epi8(_mm256_shuffle_epi8(t->value, index[i]), _mm256_shuffle_epi8(t->change, other));
      before = index[i];
    }
  }
}

RV_INLINE void add_blocks(const rq_own *own, const pair_tables *t, const uint8_t *const *blocks, int32_t r,
                          int32_t steps, const rq_activations *a, int32_t count, int32_t number,
                          rq_vf (*acc)[RQ_KERNEL_VECTORS] /* (ROWS, count) */) {
  __m256i weights[ROWS][PAIRS_OF_STEPS];
  rq_vf d[ROWS];
  int32_t header = rq_own_block_bytes(own, r) - 2, pairs = (steps + 3) / 4 * 2;
  for (int32_t i = 0; i < ROWS; i++) {
    if (own->mixed)
      decode_mixed(own, t, blocks[i], steps, weights[i]);
    else
      decode_block(own->three_bits, own->trellis, t, blocks[i], steps, weights[i]);
    d[i] = scales_of(own, own->trellis, blocks[i] + header);
  }
  for (int32_t v = 0; v < count; v++) {
    const __m256i *q = (const __m256i *)(const void *)(a[v].lanes + RQ_LANE_BLOCK_BYTES * (size_t)number);
    __m256i sums[ROWS] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int32_t p = 0; p < pairs; p++) {
      __m256i x = _mm256_loadu_si256(q + p);
      for (int32_t i = 0; i < ROWS; i++) {
        __m256i two = _mm256_maddubs_epi16(weights[i][p], x); /* below 2 * 127 * 127 */
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(two, _mm256_set1_epi16(1)));
      }
    }
    rq_vi over = rv_shl32(rv_load(a[v].group_sum + RQ_GROUPS * number), shift_of(own));
    rq_vf dx = rf_splat(a[v].scale[number]);
    for (int32_t i = 0; i < ROWS; i++) {
      rq_vi sum = rv_add32(_mm256_castsi256_si128(sums[i]), _mm256_extracti128_si256(sums[i], 1));
      acc[i][v] = rf_add(acc[i][v], rf_mul(rf_from_i32(rv_sub32(sum, over)), rf_mul(d[i], dx)));
    }
  }
}

RV_INLINE void two_rows(const rq_own *own, const pair_tables *t, const uint8_t **blocks,
                        const rq_activations *a, int32_t count, float *y0, float *y1, size_t stride) {
  rq_vf acc[ROWS][RQ_KERNEL_VECTORS];
  for (int32_t v = 0; v < count; v++) acc[0][v] = acc[1][v] = rf_splat(0.0f);
  int32_t full = a->width / RQ_BLOCK, tail = a->width % RQ_BLOCK;
  size_t bytes = own->three_bits ? sizeof(rq_block_3bit) : sizeof(rq_block_2bit);
  for (int32_t b = 0; b < full; b++) {
    add_blocks(own, t, blocks, RQ_BLOCK, RQ_LANES, a, count, b, acc);
    for (int32_t i = 0; i < ROWS; i++) blocks[i] += bytes;
  }
  if (tail) add_blocks(own, t, blocks, tail, rq_block_steps(tail), a, count, full, acc);
  for (int32_t v = 0; v < count; v++) {
    y0[stride * (size_t)v] = rf_sum4(acc[0][v]);
    y1[stride * (size_t)v] = rf_sum4(acc[1][v]);
  }
}

RV_INLINE void product(const rq_own *own, const uint8_t *data, size_t row_bytes, int32_t rows,
                       const rq_activations *a, int32_t count, float *y, size_t stride) {
  pair_tables t = tables_of(own);
  for (int32_t r = 0; r < rows; r += ROWS) {
    int32_t other = rq_min_i32(r + 1, rows - 1);
    const uint8_t *blocks[ROWS] = {data + row_bytes * (size_t)r, data + row_bytes * (size_t)other};
    if (count == 1)
      two_rows(own, &t, blocks, a, 1, y + r, y + other, stride);
    else
      two_rows(own, &t, blocks, a, count, y + r, y + other, stride);
  }
}

/* The constants of `own` are spelled out, so that the compiler sees them. */
#define DEFINE_OWN(name, ...)                                  \
  RQ_PRODUCT(name##_avx2) {                                    \
    const rq_own own = {__VA_ARGS__};                          \
    product(&own, data, row_bytes, rows, a, count, y, stride); \
  }
DEFINE_OWN(pi_q3, true, false, 4, NULL, NULL, NULL, NULL)
DEFINE_OWN(pi_q2, false, false, 2, NULL, NULL, NULL, NULL)
DEFINE_OWN(pi_t3, true, true, 0, rq_trellis_t3, rq_trellis_c3, rq_trellis_c3_pairs, NULL)
DEFINE_OWN(pi_t2, false, true, 0, rq_trellis_t2, rq_trellis_c2, rq_trellis_c2_pairs, NULL)
DEFINE_OWN(ternary, false, false, 1, NULL, NULL, NULL, NULL)
DEFINE_OWN(pi_x3, true, true, 0, NULL, rq_mixed_c3, rq_mixed_c3_pairs, rq_mixed_x3)
DEFINE_OWN(pi_x2, false, true, 0, NULL, rq_mixed_c2, rq_mixed_c2_pairs, rq_mixed_x2)

/* ---- Q8_0 ---- */

/* Eight partial sums of 32 products. |w| is unsigned, its sign goes to q. */
RV_INLINE __m256i dot_32(__m256i w, const int8_t *q) {
  __m256i x = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *)(const void *)q), w);
  return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(w), x), _mm256_set1_epi16(1));
}

RQ_PRODUCT(q8_0_avx2) {
  int32_t blocks = a->width / RQ_Q8_0_WEIGHTS;
  for (int32_t r = 0; r < rows; r++) {
    const rq_block_q8_0 *row = (const rq_block_q8_0 *)(const void *)(data + row_bytes * (size_t)r);
    rq_vf acc[RQ_KERNEL_VECTORS];
    for (int32_t v = 0; v < count; v++) acc[v] = rf_splat(0.0f);
    for (int32_t b = 0; b < blocks; b += 4) { /* one for each accumulator */
      __m256i w[4];
      uint16_t halves[8] = {0};
      for (int32_t i = 0; i < 4; i++) { /* beyond the end: +0 */
        bool there = b + i < blocks;
        w[i] =
            there ? _mm256_loadu_si256((const __m256i *)(const void *)row[b + i].q) : _mm256_setzero_si256();
        halves[i] = there ? rq_read_u16(row[b + i].d) : 0;
      }
      rq_vf d = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(const void *)halves));
      for (int32_t v = 0; v < count; v++) {
        const int8_t *q = a[v].q + RQ_Q8_0_WEIGHTS * b; /* padded to 256 */
        __m256i a32 = dot_32(w[0], q), b32 = dot_32(w[1], q + 32);
        __m256i c32 = dot_32(w[2], q + 64), d32 = dot_32(w[3], q + 96);
        __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a32, b32), _mm256_unpackhi_epi32(a32, b32));
        __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c32, d32), _mm256_unpackhi_epi32(c32, d32));
        __m256i all = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        rq_vi sums = rv_add32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
        rq_vf t = rf_mul(d, rf_splat(a[v].scale[RQ_Q8_0_WEIGHTS * b / RQ_BLOCK]));
        acc[v] = rf_add(acc[v], rf_mul(rf_from_i32(sums), t));
      }
    }
    for (int32_t v = 0; v < count; v++) y[stride * (size_t)v + (size_t)r] = rf_sum4(acc[v]);
  }
}

RQ_TARGET_END

#else
typedef int rq_no_avx2; /* a translation unit must not be empty */
#endif
