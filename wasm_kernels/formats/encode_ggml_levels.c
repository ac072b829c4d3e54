/* encode_ggml_levels.c: the nearest levels of a part at a scale, for uniform grids and for the curve of the
 * IQ4 formats. Sums run in 16 lanes with one fixed tree, as in encode_grid.c. */
#include "encode_ggml.h"
#include "foreign.h" /* rq_sum16 */

enum { IQ4_LEVELS = 16 };

typedef struct lanes {
  float error[RQ_LANES], xv[RQ_LANES], vv[RQ_LANES];
} lanes;

static inline void add_weight(lanes *sums, int32_t l, float x, float w, float v, float scale) {
  float e = x - v * scale, wv = w * v;
  sums->error[l] = sums->error[l] + w * (e * e);
  sums->xv[l] = sums->xv[l] + x * wv;
  sums->vv[l] = sums->vv[l] + v * wv;
}

static rq_fit fit_of(lanes *sums) {
  return (rq_fit){rq_sum16(sums->error), rq_sum16(sums->xv), rq_sum16(sums->vv)};
}

rq_fit rq_fit_grid(const rq_ggml_search *search, int32_t part, float scale) {
  const rq_scaled *scaled = search->scaled;
  const float *x = search->block->x + part * scaled->part, *w = search->w + part * scaled->part;
  float inverse = scale != 0.0f ? 1.0f / scale : 0.0f, low = scaled->table_low, high = scaled->table_high;
  lanes sums = {{0.0f}, {0.0f}, {0.0f}};
  for (int32_t i = 0; i < scaled->part; i += RQ_LANES)
    for (int32_t l = 0; l < RQ_LANES; l++)
      add_weight(&sums, l, x[i + l], w[i + l], rq_nearest_level(x[i + l], inverse, low, high), scale);
  return fit_of(&sums);
}

void rq_grid_values(const rq_ggml_search *search, const rq_scales *scales, int8_t *value) {
  const rq_scaled *scaled = search->scaled;
  float d = rq_f16_to_f32(scales->d);
  for (int32_t i = 0; i < search->block->r; i++) {
    float scale = rq_scale_of(scaled, d, scales->code[i / scaled->part]);
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    value[i] = (int8_t)rq_nearest_level(search->block->x[i], inverse, scaled->table_low, scaled->table_high);
  }
}

/* The value nearest to t: the lowest, and the steps to all those whose lower neighbour is farther away. */
static inline float nearest_iq4(float t) {
  float v = (float)rq_values_iq4[0];
#pragma GCC unroll 16
  for (int32_t k = 1; k < IQ4_LEVELS; k++) {
    float below = (float)rq_values_iq4[k - 1], above = (float)rq_values_iq4[k];
    v += t > (below + above) * 0.5f ? above - below : 0.0f;
  }
  return v;
}

rq_fit rq_fit_iq4(const rq_ggml_search *search, int32_t part, float scale) {
  int32_t count = search->scaled->part;
  const float *x = search->block->x + part * count, *w = search->w + part * count;
  float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  lanes sums = {{0.0f}, {0.0f}, {0.0f}};
  for (int32_t i = 0; i < count; i += RQ_LANES)
    for (int32_t l = 0; l < RQ_LANES; l++)
      add_weight(&sums, l, x[i + l], w[i + l], nearest_iq4(x[i + l] * inverse), scale);
  return fit_of(&sums);
}

void rq_iq4_codes(const rq_ggml_search *search, const rq_scales *scales, uint8_t *code) {
  const rq_scaled *scaled = search->scaled;
  float d = rq_f16_to_f32(scales->d);
  for (int32_t i = 0; i < search->block->r; i++) {
    float scale = rq_scale_of(scaled, d, scales->code[i / scaled->part]);
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    float v = nearest_iq4(search->block->x[i] * inverse);
    code[i] = 0;
    while ((float)rq_values_iq4[code[i]] < v) code[i]++;
  }
}
