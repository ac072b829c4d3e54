/* simd_own.c: 128-bit decoders of ruvq's own formats. Held to own.c bit for bit. */
#include "simd_blocks.h"

#if RQ_HAVE_SIMD

/* 16 signed bytes times d. */
RV_INLINE void scale_16(rq_vi values, rq_vf d, float *out) {
  rq_vi low = rv_widen_low8(values), high = rv_widen_high8(values);
  rf_store(out, rf_mul(rf_from_i32(rv_widen_low16(low)), d));
  rf_store(out + 4, rf_mul(rf_from_i32(rv_widen_high16(low)), d));
  rf_store(out + 8, rf_mul(rf_from_i32(rv_widen_low16(high)), d));
  rf_store(out + 12, rf_mul(rf_from_i32(rv_widen_high16(high)), d));
}

/* The bytes of a block's first `steps` steps. One function for all formats, because decoding rows isn't what
 * a token waits for and every page downloads it. */
static __attribute__((noinline)) void values_of(const rq_own *own, const uint8_t *block, int32_t steps,
                                                rq_vi *values /* (RQ_LANES) */) {
  int8_t offset = own->trellis ? 64 : (int8_t)own->offset;
  if (own->mixed) {
    rq_mixed_values_simd(own, block, steps, offset, values);
    return;
  }
  masks m = masks_of();
  if (own->trellis && own->three_bits) {
    lookup tables = lookup_of(KIND_T3);
    block_values(KIND_T3, &tables, &m, block, steps, offset, values);
  } else if (own->trellis) {
    lookup tables = lookup_of(KIND_T2);
    block_values(KIND_T2, &tables, &m, block, steps, offset, values);
  } else if (own->three_bits) {
    lookup tables = lookup_of(KIND_Q3);
    block_values(KIND_Q3, &tables, &m, block, steps, offset, values);
  } else {
    lookup tables = lookup_of(KIND_Q2);
    block_values(KIND_Q2, &tables, &m, block, steps, offset, values);
  }
}

void rq_own_decode_simd(const rq_own *own, const uint8_t *row, int32_t width, float *out) {
  for (int32_t start = 0; start < width; start += RQ_BLOCK) {
    int32_t r = rq_min_i32(RQ_BLOCK, width - start), steps = rq_block_steps(r),
            bytes = rq_own_block_bytes(own, r);
    const uint8_t *header = row + bytes - 2;
    float d[RQ_GROUPS], *to = out + start;
    rq_own_scales(own, header, d);
    rq_vi values[RQ_LANES];
    values_of(own, row, steps, values);
    if (own->trellis && header[0] == 0) {
      for (int32_t i = 0; i < r; i++) to[i] = 0.0f;
    } else if (r == RQ_BLOCK) {
      rv_transpose8(values);
      for (int32_t l = 0; l < RQ_LANES; l++)
        scale_16(values[l], rf_splat(d[l / RQ_GROUP_LANES]), to + 16 * l);
    } else {
      int8_t by_step[RQ_LANES][RQ_LANES];
      for (int32_t j = 0; j < steps; j++) rv_store(by_step[j], values[j]);
      for (int32_t l = 0, i = 0; i < r; l++)
        for (int32_t j = 0; j < steps && i < r; j++, i++)
          to[i] = (float)by_step[j][l] * d[l / RQ_GROUP_LANES];
    }
    row += bytes;
  }
}

#else
typedef int rq_no_simd_own; /* a translation unit must not be empty */
#endif
