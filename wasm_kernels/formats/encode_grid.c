/* encode_grid.c: the step of a uniform grid for one block, by the rules of RQ_SCALE_*.
 *
 * The search for the least squared error: every step on a geometric ladder (and its negative) is scored by
 * the error of the decoded block; the best three are refined by alternating least squares, each refit
 * rounded to f16, and then by single steps of f16 for as long as the error falls. Strictly better wins,
 * so among equals the first: larger steps before smaller, positive before negative.
 * All sums run in 16 lanes with one fixed tree, so that vectorising can't change a bit. */
#include "encode.h"
#include "foreign.h" /* rq_sum16 */

enum { F16_LARGEST = 0x7BFF, F16_SIGN = 0x8000, REFINED = 3, REFITS = 8 };

#define PI 0x1.921fb54442d18p+1
#define LADDER_COARSE 0x1.d5818ep-1f /* 2^(-1/8) */
#define LADDER_FINE 0x1.fd3c22p-1f   /* 2^(-1/128), for grids of many levels */
#define MANY_LEVELS 64.0f

/* Of non-negative floats the larger has the larger bits; as integers, the loop can be vectorised. */
float rq_encode_absmax(const rq_encode_block *block) {
  uint32_t most = 0;
  for (int32_t i = 0; i < block->padded; i++) {
    uint32_t bits;
    __builtin_memcpy(&bits, &block->x[i], sizeof bits);
    bits &= 0x7FFFFFFF;
    most = bits > most ? bits : most;
  }
  float absmax;
  __builtin_memcpy(&absmax, &most, sizeof absmax);
  return absmax;
}

float rq_grid_error(const rq_grid *grid, const rq_encode_block *block, float d) {
  float sums[RQ_LANES] = {0.0f}, inverse = 1.0f / d, low = grid->low, high = grid->high;
  const float *x = block->x, *w = block->w;
  if (block->weighted) {
    for (int32_t i = 0; i < block->padded; i += RQ_LANES)
      for (int32_t l = 0; l < RQ_LANES; l++) {
        float e = x[i + l] - rq_nearest_level(x[i + l], inverse, low, high) * d;
        sums[l] = sums[l] + w[i + l] * (e * e);
      }
  } else {
    for (int32_t i = 0; i < block->padded; i += RQ_LANES)
      for (int32_t l = 0; l < RQ_LANES; l++) {
        float e = x[i + l] - rq_nearest_level(x[i + l], inverse, low, high) * d;
        sums[l] = sums[l] + e * e;
      }
  }
  return rq_sum16(sums);
}

/* The step that is best for the levels that step d gives; d itself where all of them are 0. */
static float refit(const rq_grid *grid, const rq_encode_block *block, float d) {
  float xq[RQ_LANES] = {0.0f}, qq[RQ_LANES] = {0.0f}, inverse = 1.0f / d;
  for (int32_t i = 0; i < block->padded; i += RQ_LANES)
    for (int32_t l = 0; l < RQ_LANES; l++) {
      float q = rq_nearest_level(block->x[i + l], inverse, grid->low, grid->high);
      float wq = block->weighted ? block->w[i + l] * q : q;
      xq[l] = xq[l] + block->x[i + l] * wq;
      qq[l] = qq[l] + q * wq;
    }
  float sum_xq = rq_sum16(xq), sum_qq = rq_sum16(qq);
  return sum_qq > 0.0f ? sum_xq / sum_qq : d;
}

void rq_grid_levels(const rq_grid *grid, const rq_encode_block *block, uint16_t d, int8_t *q) {
  if ((d & 0x7FFF) == 0) {
    for (int32_t i = 0; i < block->padded; i++) q[i] = 0;
    return;
  }
  float inverse = 1.0f / rq_f16_to_f32(d);
  for (int32_t i = 0; i < block->padded; i++)
    q[i] = (int8_t)rq_nearest_level(block->x[i], inverse, grid->low, grid->high);
}

uint16_t rq_step_bits(float d) {
  uint16_t bits = rq_f32_to_f16(d), sign = bits & F16_SIGN, magnitude = bits & 0x7FFF;
  if (magnitude > F16_LARGEST) magnitude = F16_LARGEST;
  return magnitude ? (uint16_t)(sign | magnitude) : 0;
}

/* ---- the search ---- */

typedef struct candidate {
  float error;
  uint16_t bits;
} candidate;

typedef struct search {
  const rq_grid *grid;
  const rq_encode_block *block;
  bool either_sign;
  float above, below; /* largest weight, and largest negated weight */
  candidate best[REFINED];
} search;

/* A part of the error that no rounding avoids: the outermost weights, cut at the ends of the grid. */
static float clipping(const search *s, float d) {
  if (s->block->weighted) return 0.0f; /* the outermost may not count at all */
  float up = s->grid->high * d, down = -s->grid->low * d;
  if (d < 0.0f) {
    up = s->grid->low * d;
    down = -s->grid->high * d;
  }
  float over = s->above - up, under = s->below - down;
  return (over > 0.0f ? over * over : 0.0f) + (under > 0.0f ? under * under : 0.0f);
}

static void try_ladder(search *s, uint16_t bits) {
  float d = rq_f16_to_f32(bits);
  if (clipping(s, d) >= s->best[REFINED - 1].error) return;
  candidate c = {rq_grid_error(s->grid, s->block, d), bits};
  for (int32_t i = 0; i < REFINED; i++)
    if (c.error < s->best[i].error) {
      candidate worse = s->best[i];
      s->best[i] = c;
      c = worse;
    }
}

/* Takes `bits` in place of `c` when its error is smaller. */
static bool improve(const search *s, candidate *c, uint16_t bits) {
  if ((bits & 0x7FFF) == 0 || (bits & 0x7FFF) > F16_LARGEST) return false;
  if ((bits & F16_SIGN) && !s->either_sign) return false;
  float error = rq_grid_error(s->grid, s->block, rq_f16_to_f32(bits));
  if (!(error < c->error)) return false;
  c->error = error;
  c->bits = bits;
  return true;
}

static void refine(const search *s, candidate *c) {
  for (int32_t i = 0; i < REFITS; i++) {
    uint16_t bits = rq_step_bits(refit(s->grid, s->block, rq_f16_to_f32(c->bits)));
    if (bits == c->bits || !improve(s, c, bits)) break;
  }
  for (int32_t step = -1; step <= 1; step += 2) /* of f16, its smaller neighbours first */
    while (improve(s, c, (uint16_t)(c->bits + step))) continue;
}

/* Root mean square of the weights, by importance where there is one. */
static float block_rms(const rq_encode_block *block) {
  double sum = 0.0, count = 0.0;
  for (int32_t i = 0; i < block->r; i++) {
    double w = block->weighted ? (double)block->w[i] : 1.0;
    sum += w * ((double)block->x[i] * (double)block->x[i]);
    count += w;
  }
  return count > 0.0 ? (float)rq_sqrt(sum / count) : 0.0f;
}

static uint16_t search_step(const rq_grid *grid, const rq_encode_block *block, bool either_sign,
                            float absmax) {
  search s = {grid, block, either_sign, 0.0f, 0.0f, {{0.0f, 0}}};
  float energy[RQ_LANES] = {0.0f};
  for (int32_t i = 0; i < block->padded; i++) {
    float x = block->x[i], square = x * x;
    s.above = rq_max_f32(s.above, x);
    s.below = rq_max_f32(s.below, -x);
    energy[i % RQ_LANES] += block->weighted ? block->w[i] * square : square;
  }
  /* bits 0 stands for an all-zero block, whose error is the energy */
  float zero = rq_sum16(energy);
  for (int32_t i = 0; i < REFINED; i++) s.best[i] = (candidate){zero, 0};
  /* No step above the largest weight can be optimal: the refit of any levels is at most that. Below half
   * an rms on the last level nearly everything is cut. */
  bool many = grid->high > MANY_LEVELS;
  float ratio = many ? LADDER_FINE : LADDER_COARSE;
  float last = 0.5f * block_rms(block) / -grid->low, d = many ? absmax / grid->high : absmax;
  if (many) last = rq_max_f32(last, 0.5f * d);
  for (uint16_t before = 0; d >= last; d = d * ratio) {
    uint16_t bits = rq_step_bits(d);
    if (bits == 0) break;
    if (bits != before) {
      try_ladder(&s, bits);
      if (either_sign) try_ladder(&s, bits | F16_SIGN);
    }
    before = bits;
  }
  candidate best = {zero, 0};
  for (int32_t i = 0; i < REFINED; i++) {
    candidate c = s.best[i];
    if (c.bits) refine(&s, &c);
    if (c.error < best.error) best = c;
  }
  return best.bits;
}

/* ---- the rules ---- */

static float mean_magnitude(const rq_encode_block *block) {
  double sum = 0.0;
  for (int32_t i = 0; i < block->r; i++) sum += (double)(block->x[i] < 0.0f ? -block->x[i] : block->x[i]);
  return (float)(sum / (double)block->r);
}

/* step = alpha * pi / k (INV-3), in double, rounded once to f32 and then to f16. */
static float step_of_alpha(const rq_encode_settings *settings, const rq_grid *grid, float alpha) {
  return grid->has_k ? (float)((double)alpha * PI / (double)settings->k) : alpha;
}

uint16_t rq_grid_step(const rq_encode_settings *settings, const rq_grid *grid, const rq_encode_block *block) {
  float absmax = rq_encode_absmax(block);
  if (absmax == 0.0f) return 0;
  switch (settings->rule) {
    case RQ_SCALE_GIVEN: return rq_step_bits(step_of_alpha(settings, grid, settings->scale));
    case RQ_SCALE_ABSMAX: return rq_step_bits(absmax / -grid->low);
    case RQ_SCALE_RMS: return rq_step_bits(step_of_alpha(settings, grid, block_rms(block)));
    case RQ_SCALE_ABSMEAN: return rq_step_bits(step_of_alpha(settings, grid, mean_magnitude(block)));
    case RQ_SCALE_MSE_UNSIGNED: return search_step(grid, block, false, absmax);
    default: return search_step(grid, block, grid->either_sign, absmax);
  }
}
