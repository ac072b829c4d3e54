/* encode_ggml.c: the encoders of ggml's block formats: what each searches, and how its bytes are packed. */
#include "encode_ggml.h"

enum { OCTET = 8, POLISHES = 4 };

/* Importance below this part of the row's largest counts as this much. */
#define LEAST_IMPORTANCE 0x1p-20f

static const rq_grid grid_q4_0 = {-8.0f, 7.0f, true, false}, grid_ternary = {-1.0f, 1.0f, false, false};

/* part, codes of the scale, shift and unit; ladder; tries and step */
static const rq_scaled scaled_q3_k = {16, -32, 31, 0.0f, 1.0f, 4.0f, 2.0f, 7.0f, 1.06f, 5, 1, rq_fit_grid};
static const rq_scaled scaled_q6_k = {16,    -128,  127,    0.0f, 1.0f, 32.0f,
                                      28.0f, 40.0f, 1.012f, 3,    4,    rq_fit_grid};
static const rq_scaled scaled_iq4_xs = {32,    -32,    31,    0.0f, 1.0f, 127.0f,
                                        60.0f, 200.0f, 1.04f, 5,    1,    rq_fit_iq4};
static const rq_scaled scaled_iq4_nl = {32, 1, 1, 0.0f, 1.0f, 127.0f, 60.0f, 200.0f, 1.03f, 1, 1, rq_fit_iq4};
static const rq_scaled scaled_iq2_xxs = {32,    0,      15,    0.5f, 0.25f, 8.0f,
                                         30.0f, 110.0f, 1.12f, 6,    1,     rq_fit_points};
static const rq_scaled scaled_iq2_xs = {16,    0,     15,    0.5f, 0.25f, 8.0f,
                                        30.0f, 90.0f, 1.12f, 6,    1,     rq_fit_points};
static const rq_scaled scaled_iq3_xxs = {32,    0,      15,   0.5f, 0.5f, 4.0f,
                                         44.0f, 120.0f, 1.1f, 5,    1,    rq_fit_points};
/* part; largest scale and minimum; ladder of spans; rungs, tries */
static const rq_offset offset_q2_k = {16, 15, 0.5f, 1.15f, 10, 5};
static const rq_offset offset_q4_k = {32, 63, 0.7f, 1.04f, 12, 3};
static const rq_offset offset_q5_k = {32, 63, 0.8f, 1.02f, 12, 3};

/* ---- one function a family ---- */

typedef struct encoder {
  const rq_grid *grid; /* one scale for the block */
  const rq_scaled *scaled;
  const rq_offset *offset;
  const rq_codebook *book;
  rq_levels levels; /* without a codebook */
  rq_pack_values *pack;
  rq_pack_points *pack_points;
  float largest; /* weight that it can hold */
} encoder;

#define F16_MOST 65504.0f
#define ENTRY(name) [RQ_FORMAT_##name - RQ_GGML_FIRST]
static const encoder encoders[RQ_GGML_FORMATS] = {
    ENTRY(Q4_0) = {.grid = &grid_q4_0,
                   .levels = {-8.0f, 7.0f, false},
                   .pack = rq_pack_q4_0,
                   .largest = F16_MOST * 7.0f},
    ENTRY(TQ1_0) = {.grid = &grid_ternary,
                    .levels = {-1.0f, 1.0f, false},
                    .pack = rq_pack_tq1_0,
                    .largest = F16_MOST * 1.0f},
    ENTRY(TQ2_0) = {.grid = &grid_ternary,
                    .levels = {-1.0f, 1.0f, false},
                    .pack = rq_pack_tq2_0,
                    .largest = F16_MOST * 1.0f},
    ENTRY(Q3_K) = {.scaled = &scaled_q3_k,
                   .levels = {-4.0f, 3.0f, false},
                   .pack = rq_pack_q3_k,
                   .largest = F16_MOST * 93.0f},
    ENTRY(Q6_K) = {.scaled = &scaled_q6_k,
                   .levels = {-32.0f, 31.0f, false},
                   .pack = rq_pack_q6_k,
                   .largest = F16_MOST * 3937.0f},
    ENTRY(IQ4_NL) = {.scaled = &scaled_iq4_nl,
                     .levels = {.curve = true},
                     .pack = rq_pack_iq4_nl,
                     .largest = F16_MOST * 113.0f},
    ENTRY(IQ4_XS) = {.scaled = &scaled_iq4_xs,
                     .levels = {.curve = true},
                     .pack = rq_pack_iq4_xs,
                     .largest = F16_MOST * 3503.0f},
    ENTRY(Q2_K) = {.offset = &offset_q2_k,
                   .levels = {0.0f, 3.0f, false},
                   .pack = rq_pack_q2_k,
                   .largest = F16_MOST * 15.0f},
    ENTRY(Q4_K) = {.offset = &offset_q4_k,
                   .levels = {0.0f, 15.0f, false},
                   .pack = rq_pack_q4_k,
                   .largest = F16_MOST * 63.0f},
    ENTRY(Q5_K) = {.offset = &offset_q5_k,
                   .levels = {0.0f, 31.0f, false},
                   .pack = rq_pack_q5_k,
                   .largest = F16_MOST * 63.0f},
    ENTRY(IQ2_XXS) = {.scaled = &scaled_iq2_xxs,
                      .book = &rq_book_iq2_xxs,
                      .pack_points = rq_pack_iq2_xxs,
                      .largest = F16_MOST * 160.0f},
    ENTRY(IQ2_XS) = {.scaled = &scaled_iq2_xs,
                     .book = &rq_book_iq2_xs,
                     .pack_points = rq_pack_iq2_xs,
                     .largest = F16_MOST * 160.0f},
    ENTRY(IQ3_XXS) = {.scaled = &scaled_iq3_xxs,
                      .book = &rq_book_iq3_xxs,
                      .pack_points = rq_pack_iq3_xxs,
                      .largest = F16_MOST * 400.0f},
};

static const encoder *encoder_of(int32_t format) { return &encoders[format - RQ_GGML_FIRST]; }

float rq_ggml_encode_largest(int32_t format) { return encoder_of(format)->largest; }

int32_t rq_ggml_encode_scratch(int32_t format) {
  return rq_is_ggml(format) && encoder_of(format)->book ? rq_points_bytes() : 0;
}

void rq_ggml_encode_begin(int32_t format, void *scratch) {
  if (encoder_of(format)->book) rq_points_set_book(scratch, encoder_of(format)->book);
}

/* ---- a block ---- */

/* One after the other, each part with the scale that suits it; with feedback (else NULL) the errors of each
 * weight, or of eight that share a point, change those that follow, and so the scale of the next part. */
typedef struct rounding {
  const encoder *e;
  rq_ggml_search *search;
  rq_scales *scales;
  const rq_feedback_block *feedback;
} rounding;

static int32_t part_of(const rounding *r) {
  return r->e->scaled ? r->e->scaled->part : r->e->offset ? r->e->offset->part : r->search->block->r;
}

/* The codes of a part's scale, when the weights aren't those any more that they were found for. */
static void polish_part(const rounding *r, int32_t part) {
  float before = 0.0f;
  for (int32_t i = 0; i < POLISHES && (r->e->offset || r->scales->d != 0); i++) {
    float now = r->e->offset ? rq_polish_minimum(r->search, part, r->scales)
                             : rq_polish_scale(r->search, part, r->scales);
    if (i > 0 && !(now < before)) break;
    before = now;
  }
}

static float scale_of(const rounding *r, int32_t part) {
  float d = rq_f16_to_f32(r->scales->d);
  if (r->e->scaled) return rq_scale_of(r->e->scaled, d, r->scales->code[part]);
  return r->e->offset ? d * (float)r->scales->code[part] : d;
}

static void round_values(const rounding *r, int8_t *value) {
  int32_t count = part_of(r);
  float *x = r->search->block->x, dmin = rq_f16_to_f32(r->scales->dmin);
  for (int32_t part = 0; part * count < r->search->block->r; part++) {
    if (r->feedback && !r->e->grid) polish_part(r, part);
    float scale = scale_of(r, part), inverse = rq_inverse(scale);
    float minimum = r->e->offset ? dmin * (float)r->scales->minimum[part] : 0.0f;
    for (int32_t i = part * count; i < (part + 1) * count; i++) {
      float v = rq_nearest_value(&r->search->levels, x[i] + minimum, inverse);
      value[i] = (int8_t)v;
      if (r->feedback) rq_feed_back(r->feedback, i, v * scale - minimum, x);
    }
  }
}

static void round_points(const rounding *r, uint16_t *point, uint8_t *signs) {
  int32_t octets = part_of(r) / OCTET, points = OCTET / r->e->book->coordinates;
  for (int32_t o = 0; o < RQ_BLOCK / OCTET; o++) {
    if (r->feedback && o % octets == 0) {
      for (int32_t i = o; i < o + octets; i++) rq_points_set_octet(r->search, i);
      polish_part(r, o / octets);
    } else if (r->feedback) {
      rq_points_set_octet(r->search, o);
    }
    float scale = scale_of(r, o / octets);
    rq_octet found = rq_points_nearest(r->search, o, scale);
    signs[o] = found.signs;
    for (int32_t i = 0; i < points; i++) point[points * o + i] = found.point[i];
    for (int32_t i = 0; r->feedback && i < OCTET; i++)
      rq_feed_back(r->feedback, OCTET * o + i, (float)found.value[i] * scale, r->search->block->x);
  }
}

static void search_block(const rq_encode_settings *settings, const encoder *e, const rq_ggml_search *search,
                         rq_scales *out) {
  if (e->grid)
    *out = (rq_scales){.d = rq_grid_step(settings, e->grid, search->block)};
  else if (e->offset)
    rq_search_minimums(search, out);
  else
    rq_search_scales(search, out);
}

void rq_ggml_encode_block(const rq_encode_settings *settings, rq_encode_block *block,
                          const rq_feedback_block *feedback, uint8_t *out, void *scratch) {
  const encoder *e = encoder_of(settings->format);
  rq_ggml_search search = {e->scaled, e->offset, e->levels, block, {0}, scratch};
  for (int32_t i = 0; i < block->r; i++)
    search.w[i] = block->weighted ? rq_max_f32(block->w[i], LEAST_IMPORTANCE) : 1.0f;
  if (e->book)
    for (int32_t o = 0; o < RQ_BLOCK / OCTET; o++) rq_points_set_octet(&search, o);
  rq_scales scales;
  search_block(settings, e, &search, &scales);
  rounding r = {e, &search, &scales, feedback};
  if (e->book) {
    uint16_t point[RQ_BLOCK / 4];
    uint8_t signs[RQ_BLOCK / OCTET];
    round_points(&r, point, signs);
    e->pack_points(&scales, point, signs, out);
  } else {
    int8_t value[RQ_BLOCK];
    round_values(&r, value);
    e->pack(&scales, value, out);
  }
}
