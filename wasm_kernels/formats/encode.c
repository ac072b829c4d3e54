/* encode.c: rq_encode: checks the settings and the weights, cuts rows into blocks, and hands each block to
 * the encoder of its format. This plain code is the only one that writes files; there are no variants. */
#include "encode.h"

#include "../base/fpenv.h"
#include "ggml.h" /* rq_is_ggml */

enum { Q8_0_LEVELS = 127, DEFAULT_EFFORT = 4, MAX_EFFORT = 247, F32_EXPONENT = 0x7F800000 };

#define PRINTABLE 0x1p63f /* larger numbers don't fit the integers that messages can show */

static const rq_grid grid_q8_0 = {-127.0f, 127.0f, false, false};
static const rq_grid grid_q3 = {-4.0f, 3.0f, true, true};
static const rq_grid grid_q2 = {-2.0f, 1.0f, true, true};
static const rq_grid grid_ternary = {-1.0f, 1.0f, false, false};
static const rq_grid grid_pi_ternary = {-1.0f, 1.0f, false, true};

/* What the encoder needs to know of a format beyond the registry. */
typedef struct encoder {
  const rq_grid *grid; /* NULL: floats and trellises */
  int32_t default_rule;
  uint32_t rules;    /* bit RQ_SCALE_*: accepted */
  int32_t default_k; /* 0: k doesn't apply, or is free */
  bool takes_k;
  float largest; /* largest magnitude it can hold at all */
} encoder;

#define RULE(name) (1u << RQ_SCALE_##name)
#define GRID_RULES (RULE(GIVEN) | RULE(ABSMAX) | RULE(MSE) | RULE(MSE_UNSIGNED))
/* Q8_0 defaults to the rule that every other tool uses, so that the bytes are theirs. Ternary defaults to
 * the search and not to BitNet's mean: 7.2 against 1.8 dB on weights that weren't trained for it, and on
 * those that were (values -g, 0, g) it finds g itself. */
static const encoder encoders[RQ_FORMAT_COUNT] = {
    [RQ_FORMAT_F32] = {NULL, RQ_SCALE_DEFAULT, 0, 0, false, 0x1.fffffep+127f},
    [RQ_FORMAT_F16] = {NULL, RQ_SCALE_DEFAULT, 0, 0, false,
                       0x1.ffdffep+15f}, /* the last that rounds to 65504 */
    [RQ_FORMAT_BF16] = {NULL, RQ_SCALE_DEFAULT, 0, 0, false, 0x1.fefffep+127f},
    [RQ_FORMAT_Q8_0] = {&grid_q8_0, RQ_SCALE_ABSMAX, GRID_RULES, 0, false, 65504.0f * 127.0f},
    [RQ_FORMAT_PI_Q3] = {&grid_q3, RQ_SCALE_MSE, GRID_RULES | RULE(RMS), 4, true, 65504.0f * 4.0f},
    [RQ_FORMAT_PI_Q2] = {&grid_q2, RQ_SCALE_MSE, GRID_RULES | RULE(RMS), 3, true, 65504.0f * 2.0f},
    [RQ_FORMAT_PI_T3] = {NULL, RQ_SCALE_MSE, RULE(GIVEN) | RULE(MSE), 0, true, 0},
    [RQ_FORMAT_PI_T2] = {NULL, RQ_SCALE_MSE, RULE(GIVEN) | RULE(MSE), 0, true, 0},
    [RQ_FORMAT_PI_X3] = {NULL, RQ_SCALE_MSE, RULE(GIVEN) | RULE(MSE), 0, true, 0},
    [RQ_FORMAT_PI_X2] = {NULL, RQ_SCALE_MSE, RULE(GIVEN) | RULE(MSE), 0, true, 0},
    [RQ_FORMAT_TERNARY] = {&grid_ternary, RQ_SCALE_MSE, GRID_RULES | RULE(ABSMEAN), 0, false, 65504.0f},
    [RQ_FORMAT_PI_TERNARY] = {&grid_pi_ternary, RQ_SCALE_MSE, GRID_RULES | RULE(ABSMEAN), 4, true, 65504.0f},
    [RQ_FORMAT_PI_Q3_RUVLLM] = {&grid_q3, RQ_SCALE_MSE, GRID_RULES | RULE(RMS), 4, true, 65504.0f * 4.0f},
    [RQ_FORMAT_PI_Q2_RUVLLM] = {&grid_q2, RQ_SCALE_MSE, GRID_RULES | RULE(RMS), 3, true, 65504.0f * 2.0f},
};

static const char *const rule_names[] = {"default", "given", "absmax",      "rms",
                                         "absmean", "mse",   "mse unsigned"};
enum { RULES = 7 };

static uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
static bool finite(float x) { return (bits_of(x) & F32_EXPONENT) != F32_EXPONENT; }

static bool is_ggml(int32_t format) { return RQ_WRITES_GGML && rq_is_ggml(format); }

static float largest_of(int32_t format) {
  if (is_ggml(format)) return rq_ggml_encode_largest(format);
  const rq_own *own = rq_own_of(format);
  if (!own || !own->trellis) return encoders[format].largest;
  uint8_t header[2] = {RQ_ALPHA_BYTE_MAX, 0};
  float d[RQ_GROUPS];
  rq_trellis_scales(own->c, header, d);
  return 63.0f * d[0]; /* the largest value of all tables */
}

/* ---- options ---- */

static int32_t refuse_rule(rq_error *error, const char *name, uint32_t accepted, int32_t rule) {
  rq_fail(error, RQ_E_ARGUMENT, "scale rule for %s", name);
  char list[100];
  size_t used = 0;
  for (int32_t r = 0; r < RULES; r++) {
    if (r != RQ_SCALE_DEFAULT && !(accepted >> r & 1)) continue;
    if (used) list[used++] = ',', list[used++] = ' ';
    rq_copy(list + used, rule_names[r], rq_length(rule_names[r]));
    used += rq_length(rule_names[r]);
  }
  list[used] = 0;
  rq_expected(error, "one of: %s", list);
  if (rule >= 0 && rule < RULES)
    rq_actual(error, "%s", rule_names[rule]);
  else
    rq_actual(error, "%d", rule);
  return RQ_E_ARGUMENT;
}

/* Formats that are only read have no entry above. */
static int32_t check_writable(rq_error *error, const rq_format *entry) {
  if (entry->info.writable) return RQ_OK;
  char list[160];
  size_t used = 0;
  for (int32_t i = 0; i < 2 * RQ_FORMAT_COUNT; i++) { /* those of ggml last: not all of them find room */
    int32_t f = i % RQ_FORMAT_COUNT;
    if (!rq_format_get(f)->info.writable || rq_is_ggml(f) != (i >= RQ_FORMAT_COUNT)) continue;
    const char *name = rq_format_get(f)->info.name;
    if (used + rq_length(name) + 2 > sizeof list) break;
    if (used) list[used++] = ' ';
    rq_copy(list + used, name, rq_length(name));
    used += rq_length(name);
  }
  list[used] = 0;
  rq_fail(error, RQ_E_ARGUMENT, "format");
  rq_expected(error, "one that can be written: %s", list);
  rq_actual(error, "%s, which is read and computed with only", entry->info.name);
  rq_hint(error, "choose one of these");
  return RQ_E_ARGUMENT;
}

int32_t rq_encode_settle(rq_error *error, const rq_format *entry, const rq_encode_options *options,
                         rq_encode_settings *out) {
  static const rq_encode_options defaults = {0, RQ_SCALE_DEFAULT, 0.0f, 0};
  if (!options) options = &defaults;
  int32_t format = entry->info.format;
  const encoder *e = &encoders[format];
  const char *name = entry->info.name;
  int32_t rule = options->scale_rule;
  if (rule != RQ_SCALE_DEFAULT && (rule < 0 || rule >= RULES || !(e->rules >> rule & 1)))
    return refuse_rule(error, name, e->rules, rule);
  if (options->k != 0 && (!e->takes_k || options->k < 2 || options->k > 5)) {
    rq_fail(error, RQ_E_ARGUMENT, "k for %s", name);
    rq_expected(error, e->takes_k ? "2, 3, 4 or 5, or 0 for the default" : "0: the format has no k");
    rq_actual(error, "%d", options->k);
    return RQ_E_ARGUMENT;
  }
  if (rule == RQ_SCALE_GIVEN && !(options->scale > 0.0f && finite(options->scale))) {
    rq_fail(error, RQ_E_ARGUMENT, "scale for %s", name);
    rq_expected(error, "a finite number above 0");
    rq_actual(error, "f32 bits 0x%x", bits_of(options->scale));
    return RQ_E_ARGUMENT;
  }
  if (options->effort < 0 || options->effort > MAX_EFFORT) {
    rq_fail(error, RQ_E_ARGUMENT, "effort");
    rq_expected(error, "0 to %d", (int32_t)MAX_EFFORT);
    rq_actual(error, "%d", options->effort);
    return RQ_E_ARGUMENT;
  }
  out->format = format;
  out->rule = rule == RQ_SCALE_DEFAULT ? e->default_rule : rule;
  out->k = options->k ? options->k : e->default_k;
  out->scale = options->scale;
  const rq_own *own = rq_own_of(format);
  out->effort = options->effort ? options->effort : own && own->mixed ? RQ_MIXED_EFFORT : DEFAULT_EFFORT;
  return RQ_OK;
}

/* ---- weights ---- */

int32_t rq_encode_check_weights(rq_error *error, const rq_format *entry, const float *row, int32_t width,
                                int32_t index) {
  float largest = largest_of(entry->info.format);
  int32_t bad = 0;
  for (int32_t i = 0; i < width; i++) {
    float magnitude = row[i] < 0.0f ? -row[i] : row[i];
    bad |= !(magnitude <= largest); /* NaN too */
  }
  if (!bad) return RQ_OK;
  int32_t column = 0;
  while (row[column] <= largest && -row[column] <= largest) column++;
  rq_fail(error, RQ_E_DATA, "row %d, column %d", index, column);
  if (!finite(row[column])) {
    rq_expected(error, "finite weights");
    rq_actual(error, row[column] != row[column] ? "NaN" : row[column] > 0.0f ? "infinity" : "-infinity");
    rq_hint(error, "the tensor is damaged, or was written in a format that overflowed: get it again");
  } else {
    float magnitude = row[column] < 0.0f ? -row[column] : row[column];
    const char *name = entry->info.name, *sign = row[column] < 0.0f ? "-" : "";
    if (largest < PRINTABLE)
      rq_expected(error, "magnitudes up to %U, the most that %s holds", (uint64_t)largest, name);
    else
      rq_expected(error, "magnitudes that %s holds", name);
    if (magnitude < PRINTABLE)
      rq_actual(error, "about %s%U", sign, (uint64_t)magnitude);
    else
      rq_actual(error, "f32 bits 0x%x", bits_of(row[column]));
    rq_hint(error, "keep this tensor in f32 or bf16, or scale it down");
  }
  return RQ_E_DATA;
}

/* Importance as the encoders want it: divided by a power of two so that the largest lies in [1, 2), which
 * changes no comparison and keeps products in range. Without anything above 0: NULL, all count the same. */
int32_t rq_encode_set_importance(rq_error *error, const float *importance, int32_t width, float *scaled,
                                 const float **out) {
  float most = 0.0f;
  *out = NULL;
  for (int32_t i = 0; importance && i < width; i++) {
    if (!(importance[i] >= 0.0f) || !finite(importance[i])) {
      rq_fail(error, RQ_E_ARGUMENT, "importance of column %d", i);
      rq_expected(error, "a finite number of at least 0");
      rq_actual(error, "f32 bits 0x%x", bits_of(importance[i]));
      return RQ_E_ARGUMENT;
    }
    most = rq_max_f32(most, importance[i]);
  }
  if (most < 0x1p-126f) return RQ_OK; /* zero or denormal: says nothing */
  float power;
  uint32_t exponent = bits_of(most) & F32_EXPONENT;
  __builtin_memcpy(&power, &exponent, sizeof power);
  for (int32_t i = 0; i < width; i++) scaled[i] = importance[i] / power;
  *out = scaled;
  return RQ_OK;
}

void rq_encode_set_block(rq_encode_block *block, const float *weights, const float *importance, int32_t r) {
  block->r = r;
  block->padded = (r + RQ_LANES - 1) / RQ_LANES * RQ_LANES;
  float most = 0.0f;
  for (int32_t i = 0; i < r; i++) {
    block->x[i] = weights[i];
    if (importance) {
      block->w[i] = importance[i];
      most = rq_max_f32(most, importance[i]);
    }
  }
  for (int32_t i = r; i < block->padded; i++) block->x[i] = block->w[i] = 0.0f;
  block->weighted = most > 0.0f; /* a block of which nothing counts is encoded as if all of it did */
}

/* ---- rows ---- */

static void write_u16(uint8_t *out, uint16_t value) {
  out[0] = (uint8_t)value;
  out[1] = (uint8_t)(value >> 8);
}

static void encode_floats(int32_t format, const float *row, int32_t width, uint8_t *out) {
  if (format == RQ_FORMAT_F32) {
    rq_copy(out, row, 4 * (size_t)width);
    return;
  }
  for (int32_t i = 0; i < width; i++)
    write_u16(out + 2 * (size_t)i, format == RQ_FORMAT_F16 ? rq_f32_to_f16(row[i]) : rq_f32_to_bf16(row[i]));
}

/* ggml's rule, bit for bit: the step in f32 makes the codes (ties away from zero), its f16 is stored. */
static void encode_q8_0_absmax(const rq_encode_block *block, uint8_t *out) {
  float d = rq_encode_absmax(block) / (float)Q8_0_LEVELS, inverse = d > 0.0f ? 1.0f / d : 0.0f;
  if (!finite(inverse)) inverse = 0.0f; /* every weight is a denormal */
  write_u16(out, rq_f32_to_f16(d));
  for (int32_t i = 0; i < block->r; i++) {
    float t = block->x[i] * inverse, magnitude = t < 0.0f ? -t : t;
    int32_t whole = (int32_t)magnitude;
    whole += magnitude - (float)whole >= 0.5f;
    out[2 + i] = (uint8_t)(t < 0.0f ? -whole : whole);
  }
}

const rq_grid *rq_encode_grid(int32_t format) { return encoders[format].grid; }

int32_t rq_pack_grid(int32_t format, const int8_t *q, int32_t r, uint16_t d, uint8_t *out) {
  if (format == RQ_FORMAT_Q8_0) {
    write_u16(out, d);
    rq_copy(out + 2, q, RQ_Q8_0_WEIGHTS);
    return (int32_t)sizeof(rq_block_q8_0);
  }
  uint8_t codes[RQ_BLOCK], header[2];
  int32_t offset = -(int32_t)encoders[format].grid->low;
  for (int32_t i = 0; i < r; i++) codes[i] = (uint8_t)(q[i] + offset);
  write_u16(header, d);
  const rq_own *own = rq_own_of(format);
  if (own) return rq_pack_own(own, codes, r, header, out);
  bool three_bits = format == RQ_FORMAT_PI_Q3_RUVLLM;
  if (three_bits)
    rq_pack_q3_ruvllm(codes, out);
  else
    rq_pack_q2_ruvllm(codes, out);
  int32_t bytes = three_bits ? (int32_t)sizeof(rq_block_q3_ruvllm) : (int32_t)sizeof(rq_block_q2_ruvllm);
  rq_copy(out + bytes - 2, header, 2);
  return bytes;
}

static int32_t encode_grid_block(const rq_encode_settings *settings, const rq_encode_block *block,
                                 uint8_t *out) {
  const rq_grid *grid = encoders[settings->format].grid;
  int8_t q[RQ_BLOCK];
  uint16_t d = rq_grid_step(settings, grid, block);
  rq_grid_levels(grid, block, d, q);
  return rq_pack_grid(settings->format, q, block->r, d, out);
}

typedef struct work {
  rq_encode_block block;
  float *importance; /* (width) */
  void *trellis;     /* rq_trellis_scratch */
  void *points;      /* rq_ggml_encode_scratch */
} work;

static int32_t encode_block(const rq_encode_settings *settings, uint8_t *out, work *w) {
  const rq_encode_block *block = &w->block;
  const rq_own *own = rq_own_of(settings->format);
  if (own && own->trellis) {
    uint8_t codes[RQ_BLOCK], header[2];
    if (own->mixed)
      rq_mixed_encode(settings, own, block, codes, header, w->trellis);
    else
      rq_trellis_encode(settings, own, block, codes, header, w->trellis);
    return rq_pack_own(own, codes, block->r, header, out);
  }
  if (settings->format == RQ_FORMAT_Q8_0 && settings->rule == RQ_SCALE_ABSMAX) {
    encode_q8_0_absmax(block, out);
    return (int32_t)sizeof(rq_block_q8_0);
  }
  if (is_ggml(settings->format)) {
    rq_ggml_encode_block(settings, &w->block, NULL, out, w->points);
    return rq_format_get(settings->format)->info.block_bytes;
  }
  return encode_grid_block(settings, block, out);
}

/* ---- the call ---- */

static work *lay_out(rq_arena *arena, int32_t format, int32_t width) {
  work *w = rq_arena_take(arena, sizeof *w);
  float *importance = rq_arena_take(arena, 4 * (uint64_t)width);
  void *trellis = rq_arena_take(arena, rq_trellis_scratch(format));
  void *points = rq_arena_take(arena, RQ_WRITES_GGML ? (uint64_t)rq_ggml_encode_scratch(format) : 0);
  if (!points) return NULL;
  w->importance = importance;
  w->trellis = trellis;
  w->points = points;
  return w;
}

int32_t RQ_EXPORT rq_encode_scratch(int32_t format, int32_t width) {
  int32_t row_bytes = rq_format_row_bytes(format, width);
  if (row_bytes < 0) return row_bytes;
  rq_arena arena = rq_arena_of(NULL, NULL);
  lay_out(&arena, format, width);
  return (int32_t)arena.used + 64; /* it may start anywhere */
}

static RQ_NOINLINE int32_t encode_rows(rq_error *error, const rq_format *entry,
                                       const rq_encode_settings *settings, const float *weights,
                                       const float *importance, int32_t rows, int32_t width, uint8_t *out,
                                       work *w) {
  const float *scaled;
  int32_t code = rq_encode_set_importance(error, importance, width, w->importance, &scaled);
  if (code < 0) return code;
  int32_t step = rq_min_i32(entry->info.block_weights, RQ_BLOCK);
  if (is_ggml(entry->info.format)) rq_ggml_encode_begin(entry->info.format, w->points);
  bool floats = !entry->quantized;
  for (int32_t r = 0; r < rows; r++, weights += width) {
    code = rq_encode_check_weights(error, entry, weights, width, r);
    if (code < 0) return code;
    if (floats) {
      encode_floats(entry->info.format, weights, width, out);
      out += entry->row_bytes(width);
      continue;
    }
    for (int32_t start = 0; start < width; start += step) {
      rq_encode_set_block(&w->block, weights + start, scaled ? scaled + start : NULL,
                          rq_min_i32(step, width - start));
      out += encode_block(settings, out, w);
    }
  }
  return RQ_OK;
}

int32_t RQ_EXPORT rq_encode(rq_error *error, int32_t format, const rq_encode_options *options,
                            const float *weights, const float *importance, int32_t rows, int32_t width,
                            uint8_t *out, void *scratch, void *scratch_end) {
  const rq_format *entry = rq_format_get(format);
  if (!entry || rows < 0) {
    rq_fail(error, RQ_E_ARGUMENT, entry ? "rows" : "format");
    rq_expected(error, entry ? "at least 0" : "0 to %d", (int32_t)RQ_FORMAT_COUNT - 1);
    rq_actual(error, "%d", entry ? rows : format);
    return RQ_E_ARGUMENT;
  }
  int32_t needed = rq_encode_scratch(format, width);
  if (needed < 0) {
    return rq_format_refuse_width(error, needed, entry, width);
  }
  rq_encode_settings settings;
  int32_t code = check_writable(error, entry);
  if (code >= 0) code = rq_encode_settle(error, entry, options, &settings);
  if (code < 0) return code;
  uint8_t *begin = scratch;
  begin += (64 - ((uintptr_t)begin & 63)) & 63;
  if (!scratch || (uint8_t *)scratch_end - (uint8_t *)scratch < needed) {
    rq_fail(error, RQ_E_MEMORY, "scratch of encode");
    rq_expected(error, "%d bytes", needed);
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  rq_arena arena = rq_arena_of(begin, scratch_end);
  work *w = lay_out(&arena, format, width);
  uint32_t saved = rq_fp_enter();
  code = encode_rows(error, entry, &settings, weights, importance, rows, width, out, w);
  rq_fp_leave(saved);
  return code;
}
