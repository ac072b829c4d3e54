/* activations.c: a vector of activations to int8, per block of 256 and tail, in two orders. The bits are
 * part of the formats' contract (docs/formats.md): they decide the tokens. */
#include "../base/math.h"
#include "blocks.h"
#include "simd_kernels.h"

static int32_t blocks_of(int32_t width) { return (width + RQ_BLOCK - 1) / RQ_BLOCK; }

void rq_activations_layout(rq_arena *arena, int32_t width, rq_activations *out) {
  uint64_t blocks = (uint64_t)blocks_of(width);
  out->x = NULL;
  out->q = rq_arena_take(arena, blocks * RQ_BLOCK);
  out->lanes = rq_arena_take(arena, blocks * RQ_BLOCK);
  out->scale = rq_arena_take(arena, blocks * sizeof(float));
  out->group_sum = rq_arena_take(arena, blocks * RQ_GROUPS * sizeof(int32_t));
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

/* q (r) to lanes (steps, 16) and the sums of the four groups of lanes. */
static void lane_order(const int8_t *q, int32_t r, int8_t *lanes, int32_t *group_sum) {
  int32_t steps = rq_block_steps(r);
  for (int32_t f = 0; f < RQ_GROUPS; f++) group_sum[f] = 0;
  for (int32_t i = 0; i < r; i++) {
    int32_t l = i / steps, j = i % steps;
    lanes[RQ_LANES * j + l] = q[i];
    group_sum[l / RQ_GROUP_LANES] += q[i];
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

int32_t rq_activations_set(rq_error *error, rq_activations *out, const float *x, int32_t width,
                           bool quantized, int32_t variant) {
  out->x = x;
  out->width = width;
  for (int32_t block = 0, start = 0; start < width; block++, start += RQ_BLOCK) {
    int32_t r = rq_min_i32(RQ_BLOCK, width - start);
    uint32_t bits = largest_bits(x + start, r);
    if (bits >= 0x7F800000) return fail_nonfinite(error, x, width);
    if (!quantized) continue;
    float largest;
    __builtin_memcpy(&largest, &bits, sizeof largest);
    float dx = largest / 127.0f;
    int8_t *q = out->q + start, *lanes = out->lanes + start;
    int32_t *group_sum = out->group_sum + RQ_GROUPS * block;
    out->scale[block] = dx;
    if (r < RQ_BLOCK || dx == 0.0f) { /* padding counts as 0; so does a block too small to have a scale */
      rq_zero(q, RQ_BLOCK);
      rq_zero(lanes, RQ_BLOCK);
      rq_zero(group_sum, RQ_GROUPS * sizeof *group_sum);
    }
    if (dx == 0.0f) continue;
#if RQ_HAVE_SIMD
    if (variant == RQ_SIMD) {
      rq_quantize_block_simd(x + start, r, dx, q);
      if (r == RQ_BLOCK) {
        rq_lane_order_simd(q, lanes, group_sum);
        continue;
      }
      lane_order(q, r, lanes, group_sum);
      continue;
    }
#endif
    quantize_block(x + start, r, dx, q);
    lane_order(q, r, lanes, group_sum);
  }
  (void)variant;
  return RQ_OK;
}
