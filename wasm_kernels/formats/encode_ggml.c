/* encode_ggml.c: the encoders of ggml's block formats: what each searches, and how its bytes are packed. */
#include "encode_ggml.h"

/* Importance below this part of the row's largest counts as this much. */
#define LEAST_IMPORTANCE 0x1p-20f

static const rq_grid grid_q4_0 = {-8.0f, 7.0f, true, false}, grid_ternary = {-1.0f, 1.0f, false, false};

/* part, codes of the scale, shift and unit; ladder; levels; tries and step */
static const rq_scaled scaled_q3_k = {16,   -32,   31,    0.0f, 1.0f, 4.0f, 2.0f,
                                      7.0f, 1.06f, -4.0f, 3.0f, 5,    1,    rq_fit_grid};
static const rq_scaled scaled_q6_k = {16,    -128,   127,    0.0f,  1.0f, 32.0f, 28.0f,
                                      40.0f, 1.012f, -32.0f, 31.0f, 3,    4,     rq_fit_grid};
static const rq_scaled scaled_iq4_xs = {32,     -32,   31,   0.0f, 1.0f, 127.0f, 60.0f,
                                        200.0f, 1.04f, 0.0f, 0.0f, 5,    1,      rq_fit_iq4};
static const rq_scaled scaled_iq4_nl = {32,     1,     1,    0.0f, 1.0f, 127.0f, 60.0f,
                                        200.0f, 1.03f, 0.0f, 0.0f, 1,    1,      rq_fit_iq4};
static const rq_scaled scaled_iq2_xxs = {32,     0,     15,   0.5f, 0.25f, 8.0f, 30.0f,
                                         110.0f, 1.12f, 0.0f, 0.0f, 6,     1,    rq_fit_points};
static const rq_scaled scaled_iq2_xs = {16,    0,     15,   0.5f, 0.25f, 8.0f, 30.0f,
                                        90.0f, 1.12f, 0.0f, 0.0f, 6,     1,    rq_fit_points};
static const rq_scaled scaled_iq3_xxs = {32,     0,    15,   0.5f, 0.5f, 4.0f, 44.0f,
                                         120.0f, 1.1f, 0.0f, 0.0f, 5,    1,    rq_fit_points};
/* part; largest code; largest scale; ladder of spans; rungs, tries */
static const rq_offset offset_q2_k = {16, 3.0f, 15, 0.5f, 1.15f, 10, 5};
static const rq_offset offset_q4_k = {32, 15.0f, 63, 0.7f, 1.04f, 12, 3};
static const rq_offset offset_q5_k = {32, 31.0f, 63, 0.8f, 1.02f, 12, 3};

/* ---- one function a family ---- */

typedef struct encoder {
  const rq_grid *grid; /* one scale, a uniform grid */
  void (*pack_grid)(uint16_t d, const int8_t *value, uint8_t *out);
  const rq_scaled *scaled;
  void (*pack_levels)(const rq_scales *scales, const int8_t *value, uint8_t *out);
  void (*pack_iq4)(const rq_scales *scales, const uint8_t *code, uint8_t *out);
  const rq_codebook *book;
  void (*pack_points)(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out);
  const rq_offset *offset;
  void (*pack_offset)(const rq_minimums *found, const uint8_t *code, uint8_t *out);
  float largest; /* weight that it can hold */
} encoder;

static void pack_iq4_nl(const rq_scales *scales, const uint8_t *code, uint8_t *out) {
  rq_pack_iq4_nl(scales->d, code, out);
}

#define F16_MOST 65504.0f
static const encoder encoders[RQ_GGML_FORMATS] = {
    [RQ_FORMAT_Q4_0 -
     RQ_GGML_FIRST] = {.grid = &grid_q4_0, .pack_grid = rq_pack_q4_0, .largest = F16_MOST * 7.0f},
    [RQ_FORMAT_TQ1_0 -
        RQ_GGML_FIRST] = {.grid = &grid_ternary, .pack_grid = rq_pack_tq1_0, .largest = F16_MOST},
    [RQ_FORMAT_TQ2_0 -
        RQ_GGML_FIRST] = {.grid = &grid_ternary, .pack_grid = rq_pack_tq2_0, .largest = F16_MOST},
    [RQ_FORMAT_Q3_K -
        RQ_GGML_FIRST] = {.scaled = &scaled_q3_k, .pack_levels = rq_pack_q3_k, .largest = F16_MOST * 93.0f},
    [RQ_FORMAT_Q6_K -
        RQ_GGML_FIRST] = {.scaled = &scaled_q6_k, .pack_levels = rq_pack_q6_k, .largest = F16_MOST * 3937.0f},
    [RQ_FORMAT_IQ4_NL -
        RQ_GGML_FIRST] = {.scaled = &scaled_iq4_nl, .pack_iq4 = pack_iq4_nl, .largest = F16_MOST * 113.0f},
    [RQ_FORMAT_IQ4_XS - RQ_GGML_FIRST] = {.scaled = &scaled_iq4_xs,
                                          .pack_iq4 = rq_pack_iq4_xs,
                                          .largest = F16_MOST * 3503.0f},
    [RQ_FORMAT_IQ2_XXS - RQ_GGML_FIRST] = {.scaled = &scaled_iq2_xxs,
                                           .book = &rq_book_iq2_xxs,
                                           .pack_points = rq_pack_iq2_xxs,
                                           .largest = F16_MOST * 160.0f},
    [RQ_FORMAT_IQ2_XS - RQ_GGML_FIRST] = {.scaled = &scaled_iq2_xs,
                                          .book = &rq_book_iq2_xs,
                                          .pack_points = rq_pack_iq2_xs,
                                          .largest = F16_MOST * 160.0f},
    [RQ_FORMAT_IQ3_XXS - RQ_GGML_FIRST] = {.scaled = &scaled_iq3_xxs,
                                           .book = &rq_book_iq3_xxs,
                                           .pack_points = rq_pack_iq3_xxs,
                                           .largest = F16_MOST * 400.0f},
    [RQ_FORMAT_Q2_K -
        RQ_GGML_FIRST] = {.offset = &offset_q2_k, .pack_offset = rq_pack_q2_k, .largest = F16_MOST * 15.0f},
    [RQ_FORMAT_Q4_K -
        RQ_GGML_FIRST] = {.offset = &offset_q4_k, .pack_offset = rq_pack_q4_k, .largest = F16_MOST * 63.0f},
    [RQ_FORMAT_Q5_K -
        RQ_GGML_FIRST] = {.offset = &offset_q5_k, .pack_offset = rq_pack_q5_k, .largest = F16_MOST * 63.0f},
};

static const encoder *encoder_of(int32_t format) { return &encoders[format - RQ_GGML_FIRST]; }

float rq_ggml_encode_largest(int32_t format) { return encoder_of(format)->largest; }

int32_t rq_ggml_encode_scratch(int32_t format) {
  return format >= RQ_GGML_FIRST && encoder_of(format)->book ? rq_points_bytes() : 0;
}

void rq_ggml_encode_begin(int32_t format, void *scratch) {
  if (encoder_of(format)->book) rq_points_set_book(scratch, encoder_of(format)->book);
}

/* ---- a block ---- */

static void encode_scaled(const encoder *e, rq_ggml_search *search, uint8_t *out) {
  rq_scales scales;
  if (e->book) rq_points_set_block(search->points, search);
  rq_search_scales(search, &scales);
  if (e->book) {
    uint16_t point[RQ_BLOCK / 4];
    uint8_t signs[RQ_BLOCK / 8];
    rq_points_codes(search, &scales, point, signs);
    e->pack_points(&scales, point, signs, out);
  } else if (e->pack_iq4) {
    uint8_t code[RQ_BLOCK];
    rq_iq4_codes(search, &scales, code);
    e->pack_iq4(&scales, code, out);
  } else {
    int8_t value[RQ_BLOCK];
    rq_grid_values(search, &scales, value);
    e->pack_levels(&scales, value, out);
  }
}

void rq_ggml_encode_block(const rq_encode_settings *settings, const rq_encode_block *block, uint8_t *out,
                          void *scratch) {
  const encoder *e = encoder_of(settings->format);
  if (e->grid) {
    int8_t value[RQ_BLOCK];
    uint16_t d = rq_grid_step(settings, e->grid, block);
    rq_grid_levels(e->grid, block, d, value);
    e->pack_grid(d, value, out);
    return;
  }
  rq_ggml_search search = {.scaled = e->scaled, .block = block, .points = scratch};
  for (int32_t i = 0; i < block->r; i++)
    search.w[i] = block->weighted ? rq_max_f32(block->w[i], LEAST_IMPORTANCE) : 1.0f;
  if (e->offset) {
    rq_minimums found;
    uint8_t code[RQ_BLOCK];
    rq_search_minimums(e->offset, &search, &found);
    rq_offset_codes(e->offset, &search, &found, code);
    e->pack_offset(&found, code, out);
    return;
  }
  encode_scaled(e, &search, out);
}
