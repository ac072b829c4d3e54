/* encode_ggml_points.c: the nearest points of a codebook, for IQ2_XXS, IQ2_XS and IQ3_XXS.
 *
 * Eight weights have the signs of their values and a point of coordinates above 0, but an even number of
 * minus signs. For the scale s the error of point j is E0 - 2 s A_j + s^2 B_j, with A_j = sum of w |x| g and
 * B_j = sum of w g g over its coordinates g: both are summed once a block, and every scale then costs one
 * multiplication and one subtraction a point. Where the number of minus signs is odd, one sign is wrong;
 * of point j that is best the one with the least w |x| g, which takes twice that from A_j. So points and
 * signs are the best there are for a scale, whatever the parity. */
#include "codebooks.h"
#include "encode_ggml.h"

enum { MOST = 512, OCTET = 8, OCTETS = RQ_BLOCK / OCTET, MOST_TABLES = 2 * OCTETS };

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

static const int8_t values_iq2[3] = {8, 25, 43};
static const int8_t values_iq3[8] = {4, 12, 20, 28, 36, 44, 52, 62};
const rq_codebook rq_book_iq2_xxs = {rq_points_iq2_xxs, 256, 8, 2, values_iq2};
const rq_codebook rq_book_iq2_xs = {rq_points_iq2_xs, 512, 8, 2, values_iq2};
const rq_codebook rq_book_iq3_xxs = {rq_points_iq3_xxs, 256, 4, 3, values_iq3};

/* A table is one point's worth of weights: eight, or four in IQ3. */
struct rq_points {
  float coordinate[OCTET][MOST]; /* (coordinates, count) of the codebook */
  float a[MOST_TABLES / 2 * MOST];
  float flipped[MOST_TABLES / 2 * MOST]; /* A with the best wrong sign; only where the parity asks for it */
  float b[MOST_TABLES / 2 * MOST];
  float energy[OCTETS]; /* E0 */
  bool odd[OCTETS];
  const rq_codebook *book;
};

int32_t rq_points_bytes(void) { return (int32_t)sizeof(rq_points); }

void rq_points_set_book(rq_points *points, const rq_codebook *book) {
  points->book = book;
  for (int32_t j = 0; j < book->count; j++)
    for (int32_t k = 0; k < book->coordinates; k++) {
      int32_t index = book->packed[j] >> (book->bits * k) & ((1 << book->bits) - 1);
      points->coordinate[k][j] = (float)book->values[index];
    }
}

/* A, A with a wrong sign, and B of all points for `coordinates` weights. */
static void set_table(const rq_points *points, const float *t, const float *w, bool odd, float *a,
                      float *flipped, float *b) {
  const rq_codebook *book = points->book;
  for (int32_t j = 0; j < book->count; j += 4) {
    f4 sum_a = {0.0f}, sum_b = {0.0f}, least = {0.0f};
    for (int32_t k = 0; k < book->coordinates; k++) {
      f4 g;
      __builtin_memcpy(&g, &points->coordinate[k][j], sizeof g);
      f4 tg = t[k] * g;
      sum_a = sum_a + tg;
      sum_b = sum_b + w[k] * (g * g);
      if (!odd) continue;
      i4 less = k == 0 ? (i4){-1, -1, -1, -1} : tg < least;
      least = (f4)(((i4)tg & less) | ((i4)least & ~less));
    }
    __builtin_memcpy(a + j, &sum_a, sizeof sum_a);
    __builtin_memcpy(b + j, &sum_b, sizeof sum_b);
    sum_a = sum_a - 2.0f * least;
    if (odd) __builtin_memcpy(flipped + j, &sum_a, sizeof sum_a);
  }
}

void rq_points_set_octet(const rq_ggml_search *search, int32_t o) {
  rq_points *points = search->points;
  int32_t n = points->book->coordinates, count = points->book->count;
  const float *x = search->block->x + OCTET * o, *w = search->w + OCTET * o;
  float t[OCTET], energy = 0.0f;
  bool odd = false;
  for (int32_t k = 0; k < OCTET; k++) {
    t[k] = w[k] * rq_magnitude(x[k]);
    energy = energy + t[k] * rq_magnitude(x[k]);
    odd ^= x[k] < 0.0f;
  }
  points->energy[o] = energy;
  points->odd[o] = odd;
  for (int32_t k = 0; k < OCTET; k += n) {
    size_t at = (size_t)((OCTET * o + k) / n) * (size_t)count;
    set_table(points, t + k, w + k, odd, points->a + at, points->flipped + at, points->b + at);
  }
}

/* The point with the least scale * B - 2 A; the lowest on a tie. */
typedef struct nearest {
  float cost;
  int32_t point;
} nearest;

static nearest nearest_point(const float *a, const float *b, int32_t count, float scale) {
  f4 least = {0.0f};
  i4 at = {0, 1, 2, 3}, point = at;
  for (int32_t j = 0; j < count; j += 4, at += 4) {
    f4 va, vb;
    __builtin_memcpy(&va, a + j, sizeof va);
    __builtin_memcpy(&vb, b + j, sizeof vb);
    f4 cost = scale * vb - 2.0f * va;
    i4 less = j == 0 ? (i4){-1, -1, -1, -1} : cost < least;
    least = (f4)(((i4)cost & less) | ((i4)least & ~less));
    point = (at & less) | (point & ~less);
  }
  nearest out = {least[0], point[0]};
  for (int32_t l = 1; l < 4; l++)
    if (least[l] < out.cost || (least[l] == out.cost && point[l] < out.point))
      out = (nearest){least[l], point[l]};
  return out;
}

/* What eight weights take at a scale. */
typedef struct octet {
  int32_t point[2];
  float a, b;   /* of the points, wrong signs included */
  int32_t flip; /* -1, or the half of the octet in which a sign is wrong */
} octet;

static octet nearest_octet(const rq_points *points, int32_t o, float scale) {
  int32_t halves = OCTET / points->book->coordinates, count = points->book->count;
  size_t at = (size_t)(halves * o) * (size_t)count;
  const float *a = points->a + at, *f = points->flipped + at, *b = points->b + at;
  octet out = {{0, 0}, 0.0f, 0.0f, points->odd[o] ? 0 : -1};
  nearest found[2] = {{0.0f, 0}, {0.0f, 0}};
  for (int32_t h = 0; h < halves; h++) {
    bool flip = points->odd[o] && h == 0;
    found[h] = nearest_point((flip ? f : a) + h * count, b + h * count, count, scale);
  }
  if (points->odd[o] && halves == 2) {
    nearest first = nearest_point(a, b, count, scale),
            second = nearest_point(f + count, b + count, count, scale);
    if (first.cost + second.cost < found[0].cost + found[1].cost) {
      found[0] = first;
      found[1] = second;
      out.flip = 1;
    }
  }
  for (int32_t h = 0; h < halves; h++) {
    int32_t at_point = h * count + found[h].point;
    out.point[h] = found[h].point;
    out.a = out.a + (out.flip == h ? f : a)[at_point];
    out.b = out.b + b[at_point];
  }
  return out;
}

rq_fit rq_fit_points(const rq_ggml_search *search, int32_t part, float scale) {
  const rq_points *points = search->points;
  int32_t octets = search->scaled->part / OCTET;
  rq_fit fit = {0.0f, 0.0f, 0.0f};
  for (int32_t o = octets * part; o < octets * (part + 1); o++) {
    octet found = nearest_octet(points, o, scale);
    fit.xv = fit.xv + found.a;
    fit.vv = fit.vv + found.b;
    fit.error = fit.error + (points->energy[o] + scale * (scale * found.b - 2.0f * found.a));
  }
  return fit;
}

/* The coordinate whose sign is wrong: the one with the least w |x| g. */
static int32_t wrong_sign(const rq_ggml_search *search, int32_t o, const octet *found) {
  const rq_points *points = search->points;
  int32_t n = points->book->coordinates, best = -1;
  float least = 0.0f;
  for (int32_t k = n * found->flip; k < n * (found->flip + 1); k++) {
    float g = points->coordinate[k % n][found->point[found->flip]];
    float loss = search->w[OCTET * o + k] * rq_magnitude(search->block->x[OCTET * o + k]) * g;
    if (best >= 0 && !(loss < least)) continue;
    least = loss;
    best = k;
  }
  return best;
}

rq_octet rq_points_nearest(const rq_ggml_search *search, int32_t o, float scale) {
  const rq_points *points = search->points;
  const float *x = search->block->x + OCTET * o;
  int32_t n = points->book->coordinates;
  octet found = nearest_octet(points, o, scale);
  uint32_t signs = 0;
  for (int32_t k = 0; k < OCTET; k++) signs |= (uint32_t)(x[k] < 0.0f) << k;
  if (found.flip >= 0) signs ^= 1u << wrong_sign(search, o, &found);
  rq_octet out = {.signs = (uint8_t)signs};
  for (int32_t h = 0; h < OCTET / n; h++) out.point[h] = (uint16_t)found.point[h];
  for (int32_t k = 0; k < OCTET; k++) {
    int32_t value = (int32_t)points->coordinate[k % n][out.point[k / n]];
    out.value[k] = (int8_t)(signs >> k & 1 ? -value : value);
  }
  return out;
}
