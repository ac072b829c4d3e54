/* encode_ggml_minimums.c: scales and minimums of Q2_K, Q4_K and Q5_K, whose weights are q * (d * scale) -
 * dmin * minimum with q from 0 on.
 *
 * Each part by itself first: spans of the codes on a ladder around the middle of its weights, each refined by
 * alternating least squares in both numbers. Then the block: the largest scale and the largest minimum are
 * given a few codes each, which makes pairs of d and dmin; for each pair, every part chooses its codes, the
 * pair is refitted to all of them, and so on for as long as the error falls; then single steps. */
#include "encode_ggml.h"
#include "foreign.h" /* rq_sum16 */

enum { REFITS = 4, SETTLES = 3, POLISHES = 3 };

/* Sums over a part for the nearest codes q. */
typedef struct fit {
  float error; /* of w (x - (scale q - minimum))^2 */
  float xq, qq, q;
} fit;

/* What doesn't depend on the codes. */
typedef struct part_sums {
  float x, w; /* of w x, of w */
} part_sums;

typedef struct search_state {
  const rq_ggml_search *search;
  part_sums sums[RQ_GGML_PARTS];
  float scale[RQ_GGML_PARTS], minimum[RQ_GGML_PARTS]; /* of each part by itself */
  rq_scales best;
  float least;
  int32_t parts;
} search_state;

static fit fit_part(const rq_ggml_search *search, int32_t part, float scale, float minimum) {
  int32_t count = search->offset->part;
  const float *x = search->block->x + part * count, *w = search->w + part * count;
  float inverse = rq_inverse(scale), low = search->levels.low, high = search->levels.high;
  float error[RQ_LANES] = {0.0f}, xq[RQ_LANES] = {0.0f}, qq[RQ_LANES] = {0.0f}, sum_q[RQ_LANES] = {0.0f};
  for (int32_t i = 0; i < count; i += RQ_LANES)
    for (int32_t l = 0; l < RQ_LANES; l++) {
      float q = rq_nearest_level(x[i + l] + minimum, inverse, low, high), wq = w[i + l] * q;
      float e = x[i + l] - (q * scale - minimum);
      error[l] = error[l] + w[i + l] * (e * e);
      xq[l] = xq[l] + x[i + l] * wq;
      qq[l] = qq[l] + q * wq;
      sum_q[l] = sum_q[l] + wq;
    }
  return (fit){rq_sum16(error), rq_sum16(xq), rq_sum16(qq), rq_sum16(sum_q)};
}

/* The scale and the minimum, neither below 0, that are best for the codes of `f`. */
static void refit_part(const part_sums *sums, const fit *f, float *scale, float *minimum) {
  double det = (double)f->qq * (double)sums->w - (double)f->q * (double)f->q;
  double a = 0.0, b = -1.0;
  if (det > 0.0) {
    a = ((double)f->xq * (double)sums->w - (double)f->q * (double)sums->x) / det;
    b = ((double)f->q * (double)f->xq - (double)f->qq * (double)sums->x) / det;
  }
  if (b < 0.0) {
    b = 0.0;
    a = f->qq > 0.0f ? (double)f->xq / (double)f->qq : 0.0;
  }
  *scale = a > 0.0 ? (float)a : 0.0f;
  *minimum = (float)b;
}

/* ---- a part by itself ---- */

static void search_part(search_state *s, int32_t part) {
  const rq_offset *format = s->search->offset;
  const float *x = s->search->block->x + part * format->part, *w = s->search->w + part * format->part;
  float low = 0.0f, high = x[0], sum_x[RQ_LANES] = {0.0f}, sum_w[RQ_LANES] = {0.0f};
  for (int32_t i = 0; i < format->part; i++) {
    low = rq_min_f32(low, x[i]);
    high = rq_max_f32(high, x[i]);
    sum_x[i % RQ_LANES] += w[i] * x[i];
    sum_w[i % RQ_LANES] += w[i];
  }
  s->sums[part] = (part_sums){rq_sum16(sum_x), rq_sum16(sum_w)};
  float levels = s->search->levels.high, middle = 0.5f * (low + high), best_error = -1.0f;
  for (int32_t rung = 0; rung < format->rungs; rung++) {
    float span = format->from + (format->to - format->from) * (float)rung / (float)(format->rungs - 1);
    float scale = span * (high - low) / levels;
    float minimum = rq_max_f32(0.5f * scale * levels - middle, 0.0f), error = -1.0f;
    for (int32_t i = 0; i <= REFITS; i++) {
      fit f = fit_part(s->search, part, scale, minimum);
      if (best_error < 0.0f || f.error < best_error) {
        best_error = f.error;
        s->scale[part] = scale;
        s->minimum[part] = minimum;
      }
      if (error >= 0.0f && !(f.error < error)) break;
      error = f.error;
      refit_part(&s->sums[part], &f, &scale, &minimum);
    }
  }
}

/* ---- all parts ---- */

static int32_t nearest_code(float wanted, float step, int32_t largest) {
  if (!(step > 0.0f)) return 0;
  return (int32_t)rq_nearest_level(wanted, 1.0f / step, 0.0f, (float)largest);
}

/* The best of the minimum that the part wants and the one that its codes want, for one scale. */
static fit choose_minimum(const search_state *s, int32_t part, float scale, float dmin, int32_t *minimum) {
  int32_t largest = s->search->offset->largest, first = nearest_code(s->minimum[part], dmin, largest);
  fit f = fit_part(s->search, part, scale, dmin * (float)first);
  *minimum = first;
  int32_t second = nearest_code((scale * f.q - s->sums[part].x) / s->sums[part].w, dmin, largest);
  if (second == first) return f;
  fit other = fit_part(s->search, part, scale, dmin * (float)second);
  if (!(other.error < f.error)) return f;
  *minimum = second;
  return other;
}

static fit choose_codes(const search_state *s, int32_t part, float d, float dmin, rq_scales *out) {
  int32_t near = nearest_code(s->scale[part], d, s->search->offset->largest), minimum, other_minimum;
  int32_t other = s->scale[part] < d * (float)near ? near - 1 : near + 1;
  fit f = choose_minimum(s, part, d * (float)near, dmin, &minimum);
  out->code[part] = (int16_t)near;
  out->minimum[part] = (uint8_t)minimum;
  if (other < 0 || other > s->search->offset->largest) return f;
  fit second = choose_minimum(s, part, d * (float)other, dmin, &other_minimum);
  if (!(second.error < f.error)) return f;
  out->code[part] = (int16_t)other;
  out->minimum[part] = (uint8_t)other_minimum;
  return second;
}

/* Sums of the least squares problem in d and dmin. */
typedef struct system {
  double aa, ab, bb, xa, xb;
} system;

static void add_part(system *sums, const fit *f, const part_sums *part, int32_t scale, int32_t minimum) {
  sums->aa += (double)scale * (double)scale * (double)f->qq;
  sums->ab += (double)scale * (double)minimum * (double)f->q;
  sums->bb += (double)minimum * (double)minimum * (double)part->w;
  sums->xa += (double)scale * (double)f->xq;
  sums->xb += (double)minimum * (double)part->x;
}

/* The best d and dmin, neither below 0. */
static void solve(const system *s, uint16_t *d_bits, uint16_t *dmin_bits) {
  double det = s->aa * s->bb - s->ab * s->ab, d = 0.0, dmin = -1.0;
  if (det > 0.0) {
    d = (s->xa * s->bb - s->ab * s->xb) / det;
    dmin = (s->ab * s->xa - s->aa * s->xb) / det;
  }
  if (dmin < 0.0) {
    dmin = 0.0;
    d = s->aa > 0.0 ? s->xa / s->aa : 0.0;
  }
  *d_bits = rq_step_bits(d > 0.0 ? (float)d : 0.0f);
  *dmin_bits = rq_step_bits((float)dmin);
}

/* Codes for d and dmin; what is best so far stays in `s`. */
static rq_start try_pair(search_state *s, uint16_t d_bits, uint16_t dmin_bits) {
  rq_scales now = {.d = d_bits, .dmin = dmin_bits};
  system sums = {0.0, 0.0, 0.0, 0.0, 0.0};
  float d = rq_f16_to_f32(d_bits), dmin = rq_f16_to_f32(dmin_bits);
  rq_start out = {0, 0, 0.0f};
  for (int32_t p = 0; p < s->parts; p++) {
    fit f = choose_codes(s, p, d, dmin, &now);
    out.error = out.error + f.error;
    add_part(&sums, &f, &s->sums[p], now.code[p], now.minimum[p]);
  }
  if (out.error < s->least) {
    s->best = now;
    s->least = out.error;
  }
  solve(&sums, &out.d, &out.dmin);
  return out;
}

/* Codes for the pair, the pair for the codes, and so on. */
static void settle(search_state *s, rq_start from) {
  for (int32_t round = 0; round < SETTLES; round++) {
    rq_start now = try_pair(s, from.d, from.dmin);
    if (!(now.error < from.error) || (now.d == from.d && now.dmin == from.dmin)) return;
    from = now;
  }
}

float rq_polish_minimum(const rq_ggml_search *search, int32_t part, rq_scales *scales) {
  float d = rq_f16_to_f32(scales->d), dmin = rq_f16_to_f32(scales->dmin);
  int32_t scale = scales->code[part], minimum = scales->minimum[part], largest = search->offset->largest;
  float least = fit_part(search, part, d * (float)scale, dmin * (float)minimum).error;
  for (int32_t a = rq_max_i32(scale - 1, 0); a <= rq_min_i32(scale + 1, largest); a++)
    for (int32_t b = rq_max_i32(minimum - 1, 0); b <= rq_min_i32(minimum + 1, largest); b++) {
      float error = fit_part(search, part, d * (float)a, dmin * (float)b).error;
      if (!(error < least)) continue;
      least = error;
      scales->code[part] = (int16_t)a;
      scales->minimum[part] = (uint8_t)b;
    }
  return least;
}

static void polish_codes(search_state *s) {
  s->least = 0.0f;
  for (int32_t p = 0; p < s->parts; p++) s->least = s->least + rq_polish_minimum(s->search, p, &s->best);
}

/* d and dmin for the codes as they are; true where that was better. */
static bool refit_block(search_state *s) {
  rq_scales now = s->best;
  system sums = {0.0, 0.0, 0.0, 0.0, 0.0};
  float d = rq_f16_to_f32(now.d), dmin = rq_f16_to_f32(now.dmin), error = 0.0f;
  for (int32_t p = 0; p < s->parts; p++) {
    fit f = fit_part(s->search, p, d * (float)now.code[p], dmin * (float)now.minimum[p]);
    add_part(&sums, &f, &s->sums[p], now.code[p], now.minimum[p]);
  }
  solve(&sums, &now.d, &now.dmin);
  d = rq_f16_to_f32(now.d);
  dmin = rq_f16_to_f32(now.dmin);
  for (int32_t p = 0; p < s->parts; p++)
    error = error + fit_part(s->search, p, d * (float)now.code[p], dmin * (float)now.minimum[p]).error;
  if (!(error < s->least)) return false;
  s->best = now;
  s->least = error;
  return true;
}

void rq_search_minimums(const rq_ggml_search *search, rq_scales *out) {
  const rq_offset *format = search->offset;
  search_state s = {.search = search, .parts = RQ_BLOCK / format->part};
  float scale = 0.0f, minimum = 0.0f;
  for (int32_t i = 0; i < RQ_BLOCK; i++)
    s.least = s.least + search->w[i] * (search->block->x[i] * search->block->x[i]); /* of all zeros */
  for (int32_t p = 0; p < s.parts; p++) {
    search_part(&s, p);
    scale = rq_max_f32(scale, s.scale[p]);
    minimum = rq_max_f32(minimum, s.minimum[p]);
  }
  rq_start kept[RQ_KEPT];
  int32_t count = 0;
  for (int32_t i = 0; i < format->tries; i++)
    for (int32_t j = 0; j < format->tries; j++)
      rq_keep(kept, &count,
              try_pair(&s, rq_step_bits(scale / (float)(format->largest - i)),
                       rq_step_bits(minimum / (float)(format->largest - j))));
  for (int32_t i = 0; i < count; i++) settle(&s, kept[i]);
  if (s.best.d != 0 || s.best.dmin != 0)
    for (int32_t i = 0; i < POLISHES; i++) {
      polish_codes(&s);
      if (!refit_block(&s)) break;
    }
  *out = s.best;
}
