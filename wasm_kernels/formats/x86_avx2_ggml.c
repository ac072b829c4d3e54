/* x86_avx2_ggml.c: products of ggml's block formats with AVX2: a register holds the 32 weights of a group,
 * and the sums of up to eight groups are folded together. Blocks, scales and the order of sums are those of
 * simd_ggml.h; two rows at a time share what is read of the activations. */
#include "x86.h"

#if RQ_HAVE_X86
#include <immintrin.h>

RQ_TARGET_BEGIN("avx2,f16c")

#define RQ_F16C 1 /* for the readers of scales, which are compiled again here */
#include "simd_ggml.h"

enum { ROWS = 2, GROUP = 32, GROUPS = RQ_BLOCK / GROUP };

RV_INLINE int32_t groups_of(ggml_kind kind) { return unit_weights(kind) / GROUP; }

/* ---- weights ---- */

/* As `field` of simd_ggml.h. */
RV_INLINE __m256i wide_field(__m256i bytes, int32_t from, int32_t to, int32_t mask) {
  __m256i moved = from > to ? _mm256_srli_epi16(bytes, from - to) : _mm256_slli_epi16(bytes, to - from);
  return _mm256_and_si256(moved, _mm256_set1_epi8((int8_t)(mask << to)));
}

RV_INLINE __m256i load_32(const uint8_t *bytes) {
  return _mm256_loadu_si256((const __m256i *)(const void *)bytes);
}

/* 32 bits to bit 4 of 32 bytes. */
RV_INLINE __m256i wide_bits(uint32_t bits) {
  const __m256i byte_of = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit_of = _mm256_set1_epi64x((int64_t)0x8040201008040201);
  __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), byte_of);
  __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of), bit_of);
  return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

/* Codes of 4 bits whose upper halves are the second 16 weights. */
RV_INLINE __m256i halves_of(const uint8_t *codes) {
  rq_vi bytes = rv_load(codes);
  __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), rv_shr16(bytes, 4), 1);
  return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Weights 32g .. 32g + 31 of a unit, as load_group gives them. */
RV_INLINE __m256i wide_group(ggml_kind kind, __m256i table, const uint8_t *unit, int32_t g) {
  if (small_blocks(kind) || kind == KIND_IQ4_XS) {
    const uint8_t *block = small_blocks(kind) ? unit + block_bytes(kind) * g : unit + 16 * g;
    __m256i codes = halves_of(block + codes_at(kind));
    if (kind == KIND_Q5_0 || kind == KIND_Q5_1)
      codes = _mm256_or_si256(codes, wide_bits(rq_read_u32(block + codes_at(kind) - 4)));
    return signed_values(kind) ? _mm256_shuffle_epi8(table, codes) : codes;
  }
  const uint8_t *codes = unit + codes_at(kind);
  if (kind == KIND_Q4_K || kind == KIND_Q5_K) {
    __m256i low = wide_field(load_32(codes + 32 * (g / 2)), 4 * (g % 2), 0, 15);
    return kind == KIND_Q5_K ? _mm256_or_si256(low, wide_field(load_32(unit + 16), g, 4, 1)) : low;
  }
  if (kind == KIND_Q6_K) {
    __m256i low = wide_field(load_32(codes + 64 * (g / 4) + 32 * (g % 2)), 4 * (g / 2 % 2), 0, 15);
    return _mm256_or_si256(low, wide_field(load_32(codes + 128 + 32 * (g / 4)), 2 * (g % 4), 4, 3));
  }
  __m256i low = wide_field(load_32(codes + 32 * (g / 4)), 2 * (g % 4), 0, 3);
  return kind == KIND_Q3_K ? _mm256_or_si256(low, wide_field(load_32(unit), g, 2, 1)) : low;
}

/* ---- exact sums ---- */

/* Products of neighbours, added in i16. */
RV_INLINE __m256i multiply_pairs(ggml_kind kind, __m256i w, __m256i q) {
  if (!signed_values(kind)) return _mm256_maddubs_epi16(w, q);
  return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}

/* How often pairs can be added in i16 before they must be widened: 2 * largest weight * 127, and doubled each
 * time, stays below 2^15. */
RV_INLINE int32_t narrow_additions(ggml_kind kind) {
  if (signed_values(kind)) return 0;
  return kind == KIND_Q6_K ? 1 : 2;
}

RV_INLINE __m256i add_at(ggml_kind kind, int32_t level, __m256i a, __m256i b) {
  return level <= narrow_additions(kind) ? _mm256_add_epi16(a, b) : _mm256_add_epi32(a, b);
}
/* To i32, at the level where it is due. */
RV_INLINE __m256i widen_at(ggml_kind kind, int32_t level, __m256i v) {
  return level == narrow_additions(kind) ? _mm256_madd_epi16(v, _mm256_set1_epi16(1)) : v;
}

/* Pairs of four groups to their sums: (half of the group, group). */
RV_INLINE __m256i fold_four(ggml_kind kind, const __m256i *pairs /* (4) */) {
  __m256i p[4];
  for (int32_t i = 0; i < 4; i++) p[i] = widen_at(kind, 0, pairs[i]);
  __m256i ab = add_at(kind, 1, _mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
  __m256i cd = add_at(kind, 1, _mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
  ab = widen_at(kind, 1, ab);
  cd = widen_at(kind, 1, cd);
  __m256i all = add_at(kind, 2, _mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
  return widen_at(kind, 2, all);
}

/* Sums of the parts of a unit, four to a register, in order. */
RV_INLINE void part_products(ggml_kind kind, const __m256i *weights, const int8_t *q, rq_vi *sums) {
  __m256i pairs[GROUPS];
  for (int32_t g = 0; g < groups_of(kind); g++)
    pairs[g] = multiply_pairs(kind, weights[g], load_32((const uint8_t *)q + GROUP * g));
  for (int32_t i = 0; i < groups_of(kind) / 4; i++) {
    __m256i folded = fold_four(kind, pairs + 4 * i);
    rq_vi low = _mm256_castsi256_si128(folded), high = _mm256_extracti128_si256(folded, 1);
    if (part_of(kind) == 16) {
      sums[2 * i] = rv_zip_low32(low, high);
      sums[2 * i + 1] = rv_zip_high32(low, high);
    } else {
      sums[i] = rv_add32(low, high);
    }
  }
}

/* ---- rows ---- */

/* A unit of one row: weights, and scales and offsets of its parts, four to a register. */
typedef struct wide_unit {
  __m256i weights[GROUPS];
  rq_vf scale[4], offset[4];
} wide_unit;

RV_INLINE void load_unit(ggml_kind kind, __m256i table, const uint8_t *bytes, int32_t number,
                         wide_unit *out) {
  unit_scales(kind, bytes, number, out->scale, out->offset);
  for (int32_t g = 0; g < groups_of(kind); g++) out->weights[g] = wide_group(kind, table, bytes, g);
}

/* Adds unit `number` times one vector to a row's four sums. */
RV_INLINE rq_vf add_unit(ggml_kind kind, const wide_unit *unit, int32_t number, const rq_activations *a,
                         rq_vf acc) {
  int32_t start = unit_weights(kind) * number, block = start / RQ_BLOCK;
  const int32_t *part_sum = a->part_sum + RQ_PART_SUMS * (size_t)block;
  part_sum += part_of(kind) == 16 ? RQ_PART_SUMS_16 : start % RQ_BLOCK / GROUP;
  rq_vf dx = rf_splat(a->scale[block]);
  rq_vi sums[4];
  part_products(kind, unit->weights, a->q + start, sums);
  for (int32_t quad = 0; quad < quads_of(kind); quad++) {
    rq_vi over = rv_load(part_sum + 4 * quad);
    if (zero_shift(kind) >= 0) sums[quad] = rv_sub32(sums[quad], rv_shl32(over, zero_shift(kind)));
    acc = rf_add(acc, rf_mul(rf_from_i32(sums[quad]), rf_mul(unit->scale[quad], dx)));
    if (has_offsets(kind)) acc = rf_add(acc, rf_mul(rf_from_i32(over), rf_mul(unit->offset[quad], dx)));
  }
  return acc;
}

/* The bytes of unit u of a row, zeros behind its last block: they add +0 or -0, which changes no sum here. */
RV_INLINE const uint8_t *unit_at(ggml_kind kind, const uint8_t *row, int32_t u, int32_t width,
                                 uint8_t *tail /* (MAX_UNIT_BYTES_32) */) {
  int32_t left = width - unit_weights(kind) * u;
  const uint8_t *at = row + (size_t)(block_bytes(kind) * (small_blocks(kind) ? UNIT_BLOCKS : 1)) * (size_t)u;
  if (!small_blocks(kind) || left >= unit_weights(kind)) return at;
  rq_zero(tail, MAX_UNIT_BYTES_32);
  rq_copy(tail, at, (size_t)(block_bytes(kind) * (left / GROUP)));
  return tail;
}

RV_INLINE void two_rows(ggml_kind kind, const uint8_t *const *rows, const rq_activations *a, int32_t count,
                        float *const *y, size_t stride) {
  __m256i table = _mm256_broadcastsi128_si256(ggml_table(kind));
  rq_vf acc[ROWS][RQ_KERNEL_VECTORS];
  for (int32_t v = 0; v < count; v++) acc[0][v] = acc[1][v] = rf_splat(0.0f);
  int32_t weights = unit_weights(kind), units = (a->width + weights - 1) / weights;
  for (int32_t u = 0; u < units; u++) {
    wide_unit unit[ROWS];
    for (int32_t i = 0; i < ROWS; i++) {
      uint8_t tail[MAX_UNIT_BYTES_32];
      load_unit(kind, table, unit_at(kind, rows[i], u, a->width, tail), u, &unit[i]);
    }
    for (int32_t v = 0; v < count; v++)
      for (int32_t i = 0; i < ROWS; i++) acc[i][v] = add_unit(kind, &unit[i], u, a + v, acc[i][v]);
  }
  for (int32_t v = 0; v < count; v++)
    for (int32_t i = 0; i < ROWS; i++) y[i][stride * (size_t)v] = rf_sum4(acc[i][v]);
}

RV_INLINE void product(ggml_kind kind, const uint8_t *data, size_t row_bytes, int32_t rows,
                       const rq_activations *a, int32_t count, float *y, size_t stride) {
  for (int32_t r = 0; r < rows; r += ROWS) {
    int32_t other = rq_min_i32(r + 1, rows - 1);
    const uint8_t *const at[ROWS] = {data + row_bytes * (size_t)r, data + row_bytes * (size_t)other};
    float *const to[ROWS] = {y + r, y + other};
    if (count == 1)
      two_rows(kind, at, a, 1, to, stride);
    else
      two_rows(kind, at, a, count, to, stride);
  }
}

#define DEFINE_PRODUCT(name, kind) \
  RQ_PRODUCT(name##_avx2) { product(kind, data, row_bytes, rows, a, count, y, stride); }
DEFINE_PRODUCT(q4_0, KIND_Q4_0)
DEFINE_PRODUCT(q4_1, KIND_Q4_1)
DEFINE_PRODUCT(q5_0, KIND_Q5_0)
DEFINE_PRODUCT(q5_1, KIND_Q5_1)
DEFINE_PRODUCT(iq4_nl, KIND_IQ4_NL)
DEFINE_PRODUCT(mxfp4, KIND_MXFP4)
DEFINE_PRODUCT(q2_k, KIND_Q2_K)
DEFINE_PRODUCT(q3_k, KIND_Q3_K)
DEFINE_PRODUCT(q4_k, KIND_Q4_K)
DEFINE_PRODUCT(q5_k, KIND_Q5_K)
DEFINE_PRODUCT(q6_k, KIND_Q6_K)
DEFINE_PRODUCT(iq4_xs, KIND_IQ4_XS)

RQ_TARGET_END

#else
typedef int rq_no_avx2_ggml; /* a translation unit must not be empty */
#endif
