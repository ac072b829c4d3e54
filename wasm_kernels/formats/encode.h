/* encode.h: what the encoders share: the checked settings of one call, one block ready to encode, the
 * scale search of uniform grids, the trellis, and the writing of planes. Decoding is none of its business. */
#ifndef RQ_ENCODE_H
#define RQ_ENCODE_H
#include "blocks.h"

/* One block (or the whole 32 of Q8_0): weights and their importance, zero padded to sixteens, so that
 * loops run in 16 lanes and the padding adds nothing to any sum. */
typedef struct rq_encode_block {
  float x[RQ_BLOCK];
  float w[RQ_BLOCK]; /* importance, largest of the row in [1, 2); only where `weighted` */
  int32_t r;         /* weights */
  int32_t padded;    /* r rounded up to 16 */
  bool weighted;
} rq_encode_block;

/* The settings after validation: nothing is a default any more. */
typedef struct rq_encode_settings {
  int32_t format;
  int32_t rule;   /* RQ_SCALE_*, never DEFAULT except in formats without a scale */
  int32_t k;      /* 2..5; trellis: 0 leaves it free */
  float scale;    /* with RQ_SCALE_GIVEN */
  int32_t effort; /* trellis: how many alphas are tried */
} rq_encode_settings;

/* Settings of a call from its options, checked; weights of a row, checked; importance scaled so that the
 * largest lies in [1, 2) (*out is NULL where it says nothing). */
int32_t rq_encode_settle(rq_error *error, const rq_format *entry, const rq_encode_options *options,
                         rq_encode_settings *out);
int32_t rq_encode_check_weights(rq_error *error, const rq_format *entry, const float *row, int32_t width,
                                int32_t index);
int32_t rq_encode_set_importance(rq_error *error, const float *importance, int32_t width, float *scaled,
                                 const float **out);
void rq_encode_set_block(rq_encode_block *block, const float *weights, const float *importance, int32_t r);
/* The uniform grid of a format, or NULL; its step and levels as bytes of a block, whose size it gives. */
const struct rq_grid *rq_encode_grid(int32_t format);
int32_t rq_pack_grid(int32_t format, const int8_t *q /* (r) */, int32_t r, uint16_t d, uint8_t *out);

/* Nearest level of x in units of the step: adding and subtracting 1.5 * 2^23 rounds to the nearest integer,
 * ties to even. */
static inline float rq_nearest_level(float x, float inverse, float low, float high) {
  float t = x * inverse;
  t = t < low ? low : t;
  t = t > high ? high : t;
  return (t + 0x1.8p23f) - 0x1.8p23f;
}
/* f16 bits of a step: never infinity, never -0. */
uint16_t rq_step_bits(float d);
/* The largest magnitude of a block. */
float rq_encode_absmax(const rq_encode_block *block);

/* ---- uniform grids: weight = q * d, low <= q <= high ---- */

typedef struct rq_grid {
  float low, high;
  bool either_sign; /* whether d may be negative where the search allows it */
  bool has_k;       /* d = alpha * pi / k */
} rq_grid;

/* The step of a block by the rule in `settings`, as finite f16 bits; +0 for an all-zero block. */
uint16_t rq_grid_step(const rq_encode_settings *settings, const rq_grid *grid, const rq_encode_block *block);
/* The nearest level of each weight. Undefined beyond r. */
void rq_grid_levels(const rq_grid *grid, const rq_encode_block *block, uint16_t d, int8_t *q /* (padded) */);
/* Squared error of the decoded block, weighted where the block is. */
float rq_grid_error(const rq_grid *grid, const rq_encode_block *block, float d);

/* ---- trellis ---- */

/* Costs of the survivors after each weight: (RQ_BLOCK + 1, 4 states, 4 values of k), twice. */
enum { RQ_TRELLIS_SCRATCH = 2 * (RQ_BLOCK + 1) * 16 * (int32_t)sizeof(float) };

/* Codes and header of a block; `scratch` is 16-byte aligned. */
void rq_trellis_encode(const rq_encode_settings *settings, const rq_own *own, const rq_encode_block *block,
                       uint8_t *codes /* (r) */, uint8_t *header /* (2) */, float *scratch);

/* The same of a mixed trellis (encode_mixed.c). One search takes twenty times as long, and all that trying
 * more alphas finds is 0.02 dB. */
enum { RQ_MIXED_EFFORT = 1 };
enum { RQ_MIXED_STATES = 128, RQ_MIXED_SCRATCH = (RQ_BLOCK + 5) * RQ_MIXED_STATES * 16 };
static inline uint64_t rq_trellis_scratch(int32_t format) {
  const rq_own *own = rq_own_of(format);
  return own && own->mixed ? RQ_MIXED_SCRATCH : RQ_TRELLIS_SCRATCH;
}
void rq_mixed_encode(const rq_encode_settings *settings, const rq_own *own, const rq_encode_block *block,
                     uint8_t *codes /* (r) */, uint8_t *header /* (2) */, void *scratch);

/* The search over alpha around both (encode_alpha.c): from `start` outwards, until `radius` bytes on either
 * side of the best have been tried, because the error has ripples of about two bytes, where the ks of a group
 * change; or the one that is given. `try_alpha` says whether its alpha is the best so far. */
typedef bool (*rq_try_alpha)(void *context, uint8_t alpha);
void rq_search_alpha(const rq_encode_settings *settings, int32_t start, int32_t radius,
                     rq_try_alpha try_alpha, void *context);
/* What a search has to beat: alpha byte 0, where every weight is 0, unless the alpha is given. */
static inline float rq_cost_to_beat(const rq_encode_settings *settings, float energy) {
  return settings->rule == RQ_SCALE_GIVEN ? 0x1p120f : energy;
}
/* Squared error of a block of zeros, weighted where the block is. */
float rq_block_energy(const rq_encode_block *block);
/* Where it begins: the alpha that is most often the best for weights of that energy. */
int32_t rq_first_alpha(const rq_encode_block *block, float energy, bool three_bits);

/* ---- error feedback inside a block ---- */

/* One block whose header is decided. */
typedef struct rq_feedback_block {
  const float *weights; /* (r) as they are */
  const float *pivots;  /* (r) what an error of each costs */
  const float *factor;  /* row of the block's first weight, at its first column */
  size_t stride;        /* from row to row */
  int32_t r;
  int32_t variant; /* what this machine has: asking for every block takes long */
} rq_feedback_block;
/* What rounding weight i to `decoded` does to the corrected weights that follow it in the block. */
static inline void rq_feed_back(const rq_feedback_block *b, int32_t i, float decoded, float *x /* (r) */) {
  float e = b->weights[i] - decoded;
  const float *u = b->factor + (size_t)i * b->stride;
  for (int32_t j = i + 1; j < b->r; j++) x[j] = x[j] + e * u[j];
}
/* Survivors of each state: of the last search, and of those for a header that is sought thoroughly. */
enum { RQ_FEEDBACK_WAYS = 8, RQ_FEEDBACK_SOME_WAYS = 4, RQ_FEEDBACK_WINDOW = 64 };
enum { RQ_THOROUGH_EFFORT = 8 }; /* from here on a header is sought thoroughly */
enum { RQ_FEEDBACK_SCRATCH = 128 * 1024 };
/* Codes of a block by a Viterbi search in which every survivor carries the corrections of its own errors:
 * `ways` (8, 4 or 1) for each state. `x`: weights with the corrections of all blocks
 * before. `scratch`: RQ_FEEDBACK_SCRATCH bytes, 64-byte aligned. Gives the cost. */
float rq_trellis_feedback(const rq_own *own, const rq_feedback_block *block, const float *x,
                          const uint8_t *header, int32_t ways, uint8_t *codes /* (r) */, void *scratch);
/* The same of a mixed trellis (mixed_feedback.c), with one survivor for each of the 64 cheapest states. */
enum { RQ_MIXED_FEEDBACK_SCRATCH = 192 * 1024 };
float rq_mixed_feedback(const rq_own *own, const rq_feedback_block *block, const float *x,
                        const uint8_t *header, uint8_t *codes /* (r) */, void *scratch);

/* ---- ggml's block formats (encode_ggml.c): on the desktop only ---- */

#ifdef __wasm__
enum { RQ_WRITES_GGML = 0 }; /* pages would download these encoders for nothing */
#else
enum { RQ_WRITES_GGML = 1 };
#endif
/* Bytes of scratch, 0 for most; what a call does first; and one block. With `feedback` (else NULL) every
 * weight's error goes to those that follow in block->x. */
int32_t rq_ggml_encode_scratch(int32_t format);
void rq_ggml_encode_begin(int32_t format, void *scratch);
void rq_ggml_encode_block(const rq_encode_settings *settings, rq_encode_block *block,
                          const rq_feedback_block *feedback, uint8_t *out, void *scratch);
float rq_ggml_encode_largest(int32_t format);

/* ---- bytes ---- */

/* Planes of a block of r codes and the header after them; the block's size. */
int32_t rq_pack_own(const rq_own *own, const uint8_t *codes, int32_t r, const uint8_t *header, uint8_t *out);
void rq_pack_q3_ruvllm(const uint8_t *codes /* (256) */, uint8_t *out /* (96) */);
void rq_pack_q2_ruvllm(const uint8_t *codes /* (256) */, uint8_t *out /* (64) */);

#endif
