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
float rq_nearest_iq4(float t) { return nearest_iq4(t); }

static inline __attribute__((always_inline)) rq_fit fit_part(const rq_ggml_search *search, int32_t part,
                                                             float scale, bool curve) {
  int32_t count = search->scaled->part;
  const float *x = search->block->x + part * count, *w = search->w + part * count;
  float inverse = rq_inverse(scale), low = search->levels.low, high = search->levels.high;
  lanes sums = {{0.0f}, {0.0f}, {0.0f}};
  for (int32_t i = 0; i < count; i += RQ_LANES)
    for (int32_t l = 0; l < RQ_LANES; l++) {
      float at = x[i + l];
      float v = curve ? nearest_iq4(at * inverse) : rq_nearest_level(at, inverse, low, high);
      add_weight(&sums, l, at, w[i + l], v, scale);
    }
  return (rq_fit){rq_sum16(sums.error), rq_sum16(sums.xv), rq_sum16(sums.vv)};
}

rq_fit rq_fit_grid(const rq_ggml_search *search, int32_t part, float scale) {
  return fit_part(search, part, scale, false);
}
rq_fit rq_fit_iq4(const rq_ggml_search *search, int32_t part, float scale) {
  return fit_part(search, part, scale, true);
}
