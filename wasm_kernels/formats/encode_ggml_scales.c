/* encode_ggml_scales.c: d and the codes of the parts, for formats without offsets.
 *
 * Each part by itself first: scales on a ladder, each with the nearest values, the best of them refined by
 * alternating least squares (for the values of one scale, the best scale is sum(w x v) / sum(w v v)). Then
 * the block: the part with the largest scale is given each of a few codes, which makes as many d; for each,
 * every part takes the better of the two codes around its own scale, d is refitted to all of them, and so on
 * for as long as the error falls. At the end the codes move by single steps. Strictly better wins everywhere.
 */
#include "encode_ggml.h"

enum { REFITS = 4, SETTLES = 3 };

typedef struct blocks_best {
  rq_scales scales;
  float error;
} blocks_best;

static float absmax_of(const float *x, int32_t count) {
  float most = 0.0f;
  for (int32_t i = 0; i < count; i++) most = rq_max_f32(most, rq_magnitude(x[i]));
  return most;
}

/* ---- a part by itself ---- */

/* Takes `scale` for the part where it is better, and refits. */
static void try_scale(const rq_ggml_search *search, int32_t part, float scale, float *best,
                      rq_fit *best_fit) {
  rq_fit fit = search->scaled->fit(search, part, scale);
  if (fit.error < best_fit->error) {
    *best_fit = fit;
    *best = scale;
  }
}

static float scale_of_part(const rq_ggml_search *search, int32_t part) {
  const rq_scaled *scaled = search->scaled;
  float most = absmax_of(search->block->x + part * scaled->part, scaled->part);
  bool either_sign = scaled->low < 0 || scaled->low == scaled->high;
  if (most == 0.0f) return 0.0f;
  float best = most / scaled->first;
  rq_fit fit = scaled->fit(search, part, best);
  for (float value = scaled->from; value < scaled->to; value *= scaled->ratio) {
    try_scale(search, part, most / value, &best, &fit);
    if (either_sign) try_scale(search, part, -most / value, &best, &fit);
  }
  for (int32_t i = 0; i < REFITS && fit.vv > 0.0f; i++) {
    float before = fit.error;
    try_scale(search, part, fit.xv / fit.vv, &best, &fit);
    if (!(fit.error < before)) break;
  }
  return best;
}

/* ---- all parts ---- */

/* The better of the codes on either side of the part's own scale. */
static rq_fit choose_code(const rq_ggml_search *search, int32_t part, float d, float wanted, int16_t *code) {
  const rq_scaled *scaled = search->scaled;
  float position = wanted / (d * scaled->unit) - scaled->shift;
  position = rq_min_f32(rq_max_f32(position, (float)scaled->low), (float)scaled->high);
  int32_t near = (int32_t)position; /* towards zero */
  int32_t other = position < (float)near ? near - 1 : near + 1;
  if (rq_magnitude(position - (float)near) > 0.5f) {
    int32_t swap = near;
    near = other;
    other = swap;
  }
  rq_fit fit = scaled->fit(search, part, rq_scale_of(scaled, d, near));
  *code = (int16_t)near;
  if (other < scaled->low || other > scaled->high) return fit;
  rq_fit second = scaled->fit(search, part, rq_scale_of(scaled, d, other));
  if (!(second.error < fit.error)) return fit;
  *code = (int16_t)other;
  return second;
}

/* Codes for d; `best` becomes them where they are better. */
static rq_start try_d(const rq_ggml_search *search, const float *wanted, uint16_t d_bits, blocks_best *best) {
  const rq_scaled *scaled = search->scaled;
  rq_scales now = {.d = d_bits};
  float d = rq_f16_to_f32(d_bits), error = 0.0f, xv = 0.0f, vv = 0.0f;
  for (int32_t p = 0; p < search->block->r / scaled->part; p++) {
    rq_fit fit = choose_code(search, p, d, wanted[p], &now.code[p]);
    float unit = ((float)now.code[p] + scaled->shift) * scaled->unit;
    error = error + fit.error;
    xv = xv + unit * fit.xv;
    vv = vv + unit * unit * fit.vv;
  }
  if (error < best->error) *best = (blocks_best){now, error};
  return (rq_start){vv > 0.0f ? rq_step_bits(xv / vv) : d_bits, 0, error};
}

/* Codes for d, d for the codes, and so on. */
static void settle(const rq_ggml_search *search, const float *wanted, rq_start from, blocks_best *best) {
  for (int32_t round = 0; round < SETTLES && (from.d & 0x7FFF); round++) {
    rq_start now = try_d(search, wanted, from.d, best);
    if (!(now.error < from.error) || now.d == from.d) return;
    from = now;
  }
}

void rq_keep(rq_start *kept, int32_t *count, rq_start now) {
  int32_t at = *count < RQ_KEPT ? (*count)++ : RQ_KEPT;
  for (; at > 0 && now.error < kept[at - 1].error; at--)
    if (at < RQ_KEPT) kept[at] = kept[at - 1];
  if (at < RQ_KEPT) kept[at] = now;
}

float rq_polish_scale(const rq_ggml_search *search, int32_t part, rq_scales *scales) {
  const rq_scaled *scaled = search->scaled;
  int32_t start = scales->code[part];
  float d = rq_f16_to_f32(scales->d), least = scaled->fit(search, part, rq_scale_of(scaled, d, start)).error;
  for (int32_t code = start - 1; code <= start + 1; code += 2) {
    if (code < scaled->low || code > scaled->high) continue;
    float error = scaled->fit(search, part, rq_scale_of(scaled, d, code)).error;
    if (!(error < least)) continue;
    least = error;
    scales->code[part] = (int16_t)code;
  }
  return least;
}

void rq_search_scales(const rq_ggml_search *search, rq_scales *out) {
  const rq_scaled *scaled = search->scaled;
  int32_t parts = search->block->r / scaled->part, largest = 0;
  float wanted[RQ_GGML_PARTS], zero = 0.0f;
  for (int32_t p = 0; p < parts; p++) {
    wanted[p] = scale_of_part(search, p);
    if (rq_magnitude(wanted[p]) > rq_magnitude(wanted[largest])) largest = p;
  }
  for (int32_t i = 0; i < search->block->r; i++)
    zero = zero + search->w[i] * (search->block->x[i] * search->block->x[i]);
  blocks_best best = {{0}, zero}; /* d = 0: every weight is 0 */
  rq_start kept[RQ_KEPT];
  int32_t count = 0;
  for (int32_t i = 0; i < scaled->tries; i++) {
    int32_t high = scaled->high - i * scaled->step, low = scaled->low + i * scaled->step;
    uint16_t d = rq_step_bits(wanted[largest] / (((float)high + scaled->shift) * scaled->unit));
    if (d) rq_keep(kept, &count, try_d(search, wanted, d, &best));
    d = low < 0 ? rq_step_bits(wanted[largest] / (float)low) : 0;
    if (d) rq_keep(kept, &count, try_d(search, wanted, d, &best));
  }
  for (int32_t i = 0; i < count; i++) settle(search, wanted, kept[i], &best);
  for (int32_t p = 0; best.scales.d != 0 && p < parts; p++) rq_polish_scale(search, p, &best.scales);
  *out = best.scales;
}
