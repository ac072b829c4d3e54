/* encode_ggml.h: what the encoders of ggml's block formats share. A block has parts, each with a small
 * integer that scales it, and one f16 for all; the search runs over both and knows the weights of a part only
 * through the sums that belong to the nearest codes at a scale. None of this is in the WebAssembly modules.
 */
#ifndef RQ_ENCODE_GGML_H
#define RQ_ENCODE_GGML_H
#include "encode.h"
#include "ggml.h"

/* Sums over a part for the nearest values v at some scale, weighted: what a fit leaves of the error, and what
 * the best scale for the same values needs. */
typedef struct rq_fit {
  float error; /* sum of w (x - scale v)^2 */
  float xv;    /* of w x v */
  float vv;    /* of w v v */
} rq_fit;

typedef struct rq_points rq_points; /* what the lattice formats prepare of a block */

/* What a weight may be before it is scaled: the integers from low to high, or the curve of IQ4. */
typedef struct rq_levels {
  float low, high;
  bool curve;
} rq_levels;

/* One block to encode. */
typedef struct rq_ggml_search {
  const struct rq_scaled *scaled; /* the one or the other, or neither: one scale for the block */
  const struct rq_offset *offset;
  rq_levels levels;
  rq_encode_block *block;
  float w[RQ_BLOCK]; /* importance, never 0, so that codes of unimportant weights are the nearest, too */
  rq_points *points;
} rq_ggml_search;

/* f16 bits of d and dmin, and the codes of the parts. */
typedef struct rq_scales {
  uint16_t d, dmin;
  int16_t code[RQ_GGML_PARTS];
  uint8_t minimum[RQ_GGML_PARTS];
} rq_scales;

/* A d (and dmin) that was tried: the one that suits the codes that were best for it, and their error. */
typedef struct rq_start {
  uint16_t d, dmin;
  float error;
} rq_start;
enum { RQ_KEPT = 2 };
/* Keeps the RQ_KEPT best starts, the earlier on a tie. */
void rq_keep(rq_start *kept, int32_t *count, rq_start now);

static inline float rq_magnitude(float x) { return x < 0.0f ? -x : x; }
static inline float rq_inverse(float scale) { return scale != 0.0f ? 1.0f / scale : 0.0f; }
float rq_nearest_iq4(float t);
static inline float rq_nearest_value(const rq_levels *levels, float x, float inverse) {
  return levels->curve ? rq_nearest_iq4(x * inverse)
                       : rq_nearest_level(x, inverse, levels->low, levels->high);
}

/* ---- formats without offsets: weight = value * d * (code + shift) * unit ---- */

typedef struct rq_scaled {
  int32_t part;      /* weights */
  int32_t low, high; /* of a part's code; both 1 where the block has d alone */
  float shift, unit;
  float first, from, to, ratio; /* ladder: the value that the largest weight gets, at first and then */
  int32_t tries, step; /* codes that the part with the largest scale is given: high, high - step ... */
  rq_fit (*fit)(const rq_ggml_search *search, int32_t part, float scale);
} rq_scaled;

static inline float rq_scale_of(const rq_scaled *scaled, float d, int32_t code) {
  return d * ((float)code + scaled->shift) * scaled->unit;
}

void rq_search_scales(const rq_ggml_search *search, rq_scales *out);
/* Single steps of the code of one part, where they make its error smaller; the error that is left. */
float rq_polish_scale(const rq_ggml_search *search, int32_t part, rq_scales *scales);

rq_fit rq_fit_grid(const rq_ggml_search *search, int32_t part, float scale);
rq_fit rq_fit_iq4(const rq_ggml_search *search, int32_t part, float scale);
rq_fit rq_fit_points(const rq_ggml_search *search, int32_t part, float scale);

/* ---- formats with offsets: weight = value * (d * code) - dmin * minimum ---- */

typedef struct rq_offset {
  int32_t part;
  int32_t largest;      /* code of scale and minimum */
  float from, to;       /* ladder: spans of the codes over that of the weights */
  int32_t rungs, tries; /* steps of the ladder; largest scales and minimums that are tried */
} rq_offset;

void rq_search_minimums(const rq_ggml_search *search, rq_scales *out);
/* As rq_polish_scale, of both codes. */
float rq_polish_minimum(const rq_ggml_search *search, int32_t part, rq_scales *scales);

/* ---- points of a codebook ---- */

typedef struct rq_codebook {
  const uint16_t *packed; /* (count) build/generate_codebooks.py */
  int32_t count, coordinates, bits;
  const int8_t *values;
} rq_codebook;
extern const rq_codebook rq_book_iq2_xxs, rq_book_iq2_xs, rq_book_iq3_xxs;

/* Bytes of an rq_points, 64-byte aligned. */
int32_t rq_points_bytes(void);
void rq_points_set_book(rq_points *points, const rq_codebook *book);
/* The tables of eight weights, those from 8 `octet` on. */
void rq_points_set_octet(const rq_ggml_search *search, int32_t octet);
/* What eight weights become at a scale: their points (one or two), signs (an even number of them set), and
 * values. */
typedef struct rq_octet {
  uint16_t point[2];
  uint8_t signs;
  int8_t value[8];
} rq_octet;
rq_octet rq_points_nearest(const rq_ggml_search *search, int32_t octet, float scale);

/* ---- bytes: of values, and of points (32 or 64) and signs (32) ---- */

typedef void rq_pack_values(const rq_scales *scales, const int8_t *value /* (256 or 32) */, uint8_t *out);
typedef void rq_pack_points(const rq_scales *scales, const uint16_t *point, const uint8_t *signs,
                            uint8_t *out);
rq_pack_values rq_pack_q4_0, rq_pack_tq1_0, rq_pack_tq2_0, rq_pack_q3_k, rq_pack_q6_k, rq_pack_iq4_nl,
    rq_pack_iq4_xs, rq_pack_q2_k, rq_pack_q4_k, rq_pack_q5_k;
rq_pack_points rq_pack_iq2_xxs, rq_pack_iq2_xs, rq_pack_iq3_xxs;

#endif
