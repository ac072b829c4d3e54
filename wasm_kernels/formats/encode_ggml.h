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

/* One block to encode. */
typedef struct rq_ggml_search {
  const struct rq_scaled *scaled; /* NULL: a format with offsets, or one scale for the block */
  const rq_encode_block *block;
  float w[RQ_BLOCK]; /* importance, never 0, so that codes of unimportant weights are the nearest, too */
  rq_points *points;
} rq_ggml_search;

/* ---- formats without offsets: weight = value * d * (code + shift) * unit ---- */

typedef struct rq_scaled {
  int32_t part;      /* weights */
  int32_t low, high; /* of a part's code; both 1 where the block has d alone */
  float shift, unit;
  float first, from, to, ratio; /* ladder: the value that the largest weight gets, at first and then */
  float table_low, table_high;  /* grids: the levels; IQ4: not used */
  int32_t tries, step; /* codes that the part with the largest scale is given: high, high - step ... */
  rq_fit (*fit)(const rq_ggml_search *search, int32_t part, float scale);
} rq_scaled;

/* f16 bits of d, and the codes of the parts. */
typedef struct rq_scales {
  uint16_t d;
  int16_t code[RQ_GGML_PARTS];
} rq_scales;

static inline float rq_scale_of(const rq_scaled *scaled, float d, int32_t code) {
  return d * ((float)code + scaled->shift) * scaled->unit;
}

void rq_search_scales(const rq_ggml_search *search, rq_scales *out);

rq_fit rq_fit_grid(const rq_ggml_search *search, int32_t part, float scale);
rq_fit rq_fit_iq4(const rq_ggml_search *search, int32_t part, float scale);
rq_fit rq_fit_points(const rq_ggml_search *search, int32_t part, float scale);
/* Values (levels of a grid) or codes (0..15 of IQ4) of the whole block. */
void rq_grid_values(const rq_ggml_search *search, const rq_scales *scales, int8_t *value /* (256) */);
void rq_iq4_codes(const rq_ggml_search *search, const rq_scales *scales, uint8_t *code /* (256) */);

/* ---- formats with offsets: weight = code * (d * scale) - dmin * minimum ---- */

typedef struct rq_offset {
  int32_t part;
  float levels;         /* the largest code */
  int32_t largest;      /* of scale and minimum */
  float from, to;       /* ladder: spans of the codes over that of the weights */
  int32_t rungs, tries; /* steps of the ladder; largest scales and minimums that are tried */
} rq_offset;

typedef struct rq_minimums {
  uint16_t d, dmin;
  uint8_t scale[RQ_GGML_PARTS], minimum[RQ_GGML_PARTS];
} rq_minimums;

void rq_search_minimums(const rq_offset *format, const rq_ggml_search *search, rq_minimums *out);
void rq_offset_codes(const rq_offset *format, const rq_ggml_search *search, const rq_minimums *found,
                     uint8_t *code /* (256) */);

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
void rq_points_set_block(rq_points *points, const rq_ggml_search *search);
/* Points (32 or 64) and signs (32: eight bits each, an even number of them set) of the block. */
void rq_points_codes(const rq_ggml_search *search, const rq_scales *scales, uint16_t *point, uint8_t *signs);

/* ---- bytes ---- */

void rq_pack_q4_0(uint16_t d, const int8_t *value, uint8_t *out);
void rq_pack_tq1_0(uint16_t d, const int8_t *value, uint8_t *out);
void rq_pack_tq2_0(uint16_t d, const int8_t *value, uint8_t *out);
void rq_pack_q3_k(const rq_scales *scales, const int8_t *value, uint8_t *out);
void rq_pack_q6_k(const rq_scales *scales, const int8_t *value, uint8_t *out);
void rq_pack_iq4_nl(uint16_t d, const uint8_t *code, uint8_t *out);
void rq_pack_iq4_xs(const rq_scales *scales, const uint8_t *code, uint8_t *out);
void rq_pack_q2_k(const rq_minimums *found, const uint8_t *code, uint8_t *out);
void rq_pack_q4_k(const rq_minimums *found, const uint8_t *code, uint8_t *out);
void rq_pack_q5_k(const rq_minimums *found, const uint8_t *code, uint8_t *out);
void rq_pack_iq2_xxs(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out);
void rq_pack_iq2_xs(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out);
void rq_pack_iq3_xxs(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out);

#endif
