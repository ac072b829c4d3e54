/* activations.c: a vector of activations to int8, per block of 256 and tail, in two orders. The bits are
 * part of the formats' contract (docs/formats.md): they decide the tokens. */
#include "../base/math.h"
#include "blocks.h"
#include "simd_kernels.h"
#include "x86.h"

static int32_t blocks_of(int32_t width) { return (width + RQ_BLOCK - 1) / RQ_BLOCK; }

void rq_activations_layout(rq_arena *arena, int32_t width, rq_activations *out) {
  uint64_t blocks = (uint64_t)blocks_of(width);
  out->x = NULL;
  out->q = rq_arena_take(arena, blocks * RQ_BLOCK);
#if RQ_HAVE_SIMD
  out->lanes = rq_arena_take(arena, blocks * RQ_LANE_BLOCK_BYTES);
  out->steps = RQ_LANES_WIDE ? rq_arena_take(arena, blocks * RQ_LANE_BLOCK_BYTES) : out->q;
#else
  out->lanes = out->steps = NULL;
#endif
  out->scale = rq_arena_take(arena, blocks * sizeof(float));
  out->group_sum = rq_arena_take(arena, blocks * RQ_GROUPS * sizeof(int32_t));
  out->quads = RQ_HAVE_X86 ? rq_arena_take(arena, blocks * RQ_BLOCK) : NULL;
  out->part_sum = rq_arena_take(arena, blocks * RQ_PART_SUMS * sizeof(int32_t));
  out->width = width;
}

static uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* Largest magnitude as bits, which order as the numbers do; NaN and infinity come out on top. */
static uint32_t largest_bits(const float *x, int32_t count) {
  uint32_t largest = 0;
  for (int32_t i = 0; i < count; i++) {
    uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

/* v rounded to nearest, ties to even, for |v| below 2^22. */
static float round_nearest(float v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

static void quantize_block(const float *x, int32_t r, float dx, int8_t *q) {
  for (int32_t i = 0; i < r; i++) {
    float v = x[i] / dx;
    /* Beyond 127 only where dx is subnormal and so has lost its last bits. */
    v = rq_max_f32(-127.0f, rq_min_f32(127.0f, v));
    q[i] = (int8_t)round_nearest(v);
  }
}

/* Sums of q (256, zero padded) over each 32 and over each 16. */
static void sum_parts(const int8_t *q, int32_t *part_sum /* (RQ_PART_SUMS) */, int32_t variant) {
  int32_t *sums = part_sum + RQ_PART_SUMS_16;
#if RQ_HAVE_SIMD
  if (variant != RQ_SCALAR)
    rq_part_sums_simd(q, sums);
  else
#endif
    for (int32_t p = 0; p < RQ_LANES; p++) {
      sums[p] = 0;
      for (int32_t i = 0; i < 16; i++) sums[p] += q[16 * p + i];
    }
  (void)variant;
  for (int32_t p = 0; p < RQ_PART_SUMS_16; p++) part_sum[p] = sums[2 * p] + sums[2 * p + 1];
}

/* Sums of q over the four groups of lanes; those over each 16 are there. */
static void sum_groups(const int8_t *q, int32_t r, const int32_t *sums_16, int32_t *group_sum) {
  int32_t group = RQ_GROUP_LANES * rq_block_steps(r), parts = group / 16; /* weights in a group */
  for (int32_t f = 0; f < RQ_GROUPS; f++) {
    int32_t sum = 0;
    if (group % 16 == 0) {
      for (int32_t p = parts * f; p < parts * (f + 1); p++) sum += sums_16[p];
    } else {
      int32_t last = rq_min_i32(r, group * (f + 1));
      for (int32_t i = group * f; i < last; i++) sum += q[i];
    }
    group_sum[f] = sum;
  }
}

static int32_t fail_nonfinite(rq_error *error, const float *x, int32_t width) {
  int32_t i = 0;
  while (i < width - 1 && (bits_of(x[i]) & 0x7F800000) != 0x7F800000) i++;
  rq_fail(error, RQ_E_NONFINITE, "activation %d", i);
  rq_expected(error, "a finite number");
  rq_actual(error, "f32 bits 0x%x", bits_of(x[i]));
  return RQ_E_NONFINITE;
}

/* Four steps of a lane side by side, then the 16 lanes, then the next four steps. */
static void set_quads(const int8_t *q, int32_t r, int8_t *quads) {
  int32_t steps = rq_block_steps(r);
  if (r == RQ_BLOCK) {
    for (int32_t g = 0; g < 4; g++)
      for (int32_t l = 0; l < RQ_LANES; l++)
        __builtin_memcpy(quads + 64 * g + 4 * l, q + RQ_LANES * l + 4 * g, 4);
    return;
  }
  rq_zero(quads, RQ_BLOCK);
  for (int32_t l = 0, i = 0; i < r; l++)
    for (int32_t j = 0; j < steps && i < r; j++, i++) quads[64 * (j / 4) + 4 * l + j % 4] = q[i];
}

/* q, scale, sums and lanes of one block of r numbers, the largest of which is given. */
static void quantize_one(rq_activations *out, int32_t block, const float *x, int32_t r, float largest,
                         int32_t variant) {
  float dx = largest / 127.0f;
  int8_t *q = out->q + RQ_BLOCK * (size_t)block;
  out->scale[block] = dx;
  if (r < RQ_BLOCK || dx == 0.0f)
    rq_zero(q, RQ_BLOCK); /* padding is 0; so is a block too small for a scale */
  if (dx != 0.0f) {
#if RQ_HAVE_SIMD
    if (variant != RQ_SCALAR)
      rq_quantize_block_simd(x, r, dx, q);
    else
#endif
      quantize_block(x, r, dx, q);
  }
  int32_t *sums = out->part_sum + RQ_PART_SUMS * (size_t)block;
  sum_parts(q, sums, variant);
  sum_groups(q, r, sums + RQ_PART_SUMS_16, out->group_sum + RQ_GROUPS * (size_t)block);
#if RQ_HAVE_SIMD
  rq_lanes_simd(q, r, out->lanes + RQ_LANE_BLOCK_BYTES * (size_t)block);
  if (variant == RQ_AVX512) set_quads(q, r, out->quads + RQ_BLOCK * (size_t)block);
#if RQ_LANES_WIDE
  rq_steps_simd(q, out->steps + RQ_LANE_BLOCK_BYTES * (size_t)block);
#endif
#endif
}

void rq_activations_begin(rq_activations *out, const float *x, int32_t width) {
  out->x = x;
  out->width = width;
}

int32_t rq_activations_block(rq_activations *out, int32_t block, bool quantized, int32_t variant) {
  int32_t start = block * RQ_BLOCK, r = rq_min_i32(RQ_BLOCK, out->width - start);
  uint32_t bits = largest_bits(out->x + start, r);
  if (bits >= 0x7F800000) return RQ_E_NONFINITE;
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof largest);
  if (quantized) quantize_one(out, block, out->x + start, r, largest, variant);
  return RQ_OK;
}

int32_t rq_activations_set(rq_error *error, rq_activations *out, const float *x, int32_t width,
                           bool quantized, int32_t variant) {
  rq_activations_begin(out, x, width);
  for (int32_t block = 0; block < blocks_of(width); block++)
    if (rq_activations_block(out, block, quantized, variant) < 0) return fail_nonfinite(error, x, width);
  return RQ_OK;
}
