/* registry.c: one entry a format, and the exported functions that take a format's number. */
#include "../base/fpenv.h"
#include "foreign.h"
#include "simd_kernels.h"

/* ---- sizes of rows ---- */

static int32_t checked_bytes(uint64_t bytes) { return bytes <= INT32_MAX ? (int32_t)bytes : -1; }

static int32_t own_row_bytes(const rq_own *own, int32_t width) {
  uint64_t full = (uint64_t)(width / RQ_BLOCK) * (uint64_t)rq_own_block_bytes(own, RQ_BLOCK);
  int32_t tail = width % RQ_BLOCK;
  return checked_bytes(full + (tail ? (uint64_t)rq_own_block_bytes(own, tail) : 0));
}

static int32_t block_row_bytes(int32_t width, int32_t block_weights, uint64_t block_bytes) {
  if (width % block_weights) return -1;
  return checked_bytes((uint64_t)(width / block_weights) * block_bytes);
}

static int32_t f32_row_bytes(int32_t width) { return block_row_bytes(width, 1, 4); }
static int32_t half_row_bytes(int32_t width) { return block_row_bytes(width, 1, 2); }
static int32_t q8_0_row_bytes(int32_t width) {
  return block_row_bytes(width, RQ_Q8_0_WEIGHTS, sizeof(rq_block_q8_0));
}
static int32_t q3_ruvllm_row_bytes(int32_t width) {
  return block_row_bytes(width, RQ_BLOCK, sizeof(rq_block_q3_ruvllm));
}
static int32_t q2_ruvllm_row_bytes(int32_t width) {
  return block_row_bytes(width, RQ_BLOCK, sizeof(rq_block_q2_ruvllm));
}

/* ---- entries: SIMD where this build has it, else the scalar reference ---- */

#if RQ_HAVE_SIMD
#define PAIR(kernel) kernel
enum { PAIR_VECTORS = RQ_PRODUCT_VECTORS };
#define PICK(variant, simd, scalar) \
  if ((variant) == RQ_SIMD)         \
    simd;                           \
  else                              \
    scalar
#else
#define PAIR(kernel) NULL
enum { PAIR_VECTORS = 1 };
#define PICK(variant, simd, scalar) \
  (void)(variant);                  \
  scalar
#endif

#define DEFINE_OWN(name)                                                                                  \
  static int32_t name##_row_bytes(int32_t width) { return own_row_bytes(&rq_own_##name, width); }         \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) {             \
    PICK(variant, rq_own_decode_simd(&rq_own_##name, row, width, out),                                    \
         rq_own_decode_scalar(&rq_own_##name, row, width, out));                                          \
  }                                                                                                       \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {                 \
    PICK(variant, return rq_##name##_dot_simd(row, a), return rq_own_dot_scalar(&rq_own_##name, row, a)); \
  }                                                                                                       \
  static int32_t name##_check(rq_error *error, const uint8_t *row, int32_t width) {                       \
    return rq_own_check(error, &rq_own_##name, row, width);                                               \
  }
DEFINE_OWN(pi_q3)
DEFINE_OWN(pi_q2)
DEFINE_OWN(pi_t3)
DEFINE_OWN(pi_t2)
DEFINE_OWN(ternary)

#define DEFINE_FOREIGN(name)                                                                             \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) {            \
    PICK(variant, rq_##name##_decode_simd(row, width, out), rq_##name##_decode_scalar(row, width, out)); \
  }                                                                                                      \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {                \
    PICK(variant, return rq_##name##_dot_simd(row, a), return rq_##name##_dot_scalar(row, a));           \
  }
DEFINE_FOREIGN(f32)
DEFINE_FOREIGN(f16)
DEFINE_FOREIGN(bf16)
DEFINE_FOREIGN(q8_0)

/* ruvllm's layout is read for compatibility and has the plain kernel only. */
#define DEFINE_PLAIN(name)                                                                    \
  static void name##_decode(const uint8_t *row, int32_t width, float *out, int32_t variant) { \
    (void)variant;                                                                            \
    rq_##name##_decode(row, width, out);                                                      \
  }                                                                                           \
  static float name##_dot(const uint8_t *row, const rq_activations *a, int32_t variant) {     \
    (void)variant;                                                                            \
    return rq_##name##_dot(row, a);                                                           \
  }
DEFINE_PLAIN(q3_ruvllm)
DEFINE_PLAIN(q2_ruvllm)

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q8_0 = 8, GGML_BF16 = 30, RUVLLM_Q3 = 40, RUVLLM_Q2 = 41 };

#define OWN(id, text, name, bytes)                \
  {{id, RQ_GGML_I8, 1, RQ_BLOCK, bytes, 1, text}, \
   name##_row_bytes,                              \
   name##_decode,                                 \
   name##_dot,                                    \
   name##_check,                                  \
   true,                                          \
   PAIR(rq_##name##_pair_simd)}
static const rq_format formats[RQ_FORMAT_COUNT] = {
    {{RQ_FORMAT_F32, GGML_F32, 1, 1, 4, 0, "f32"},
     f32_row_bytes,
     f32_decode,
     f32_dot,
     rq_f32_check,
     false,
     PAIR(rq_f32_pair_simd)},
    {{RQ_FORMAT_F16, GGML_F16, 1, 1, 2, 0, "f16"},
     half_row_bytes,
     f16_decode,
     f16_dot,
     rq_f16_check,
     false,
     PAIR(rq_f16_pair_simd)},
    {{RQ_FORMAT_BF16, GGML_BF16, 1, 1, 2, 0, "bf16"},
     half_row_bytes,
     bf16_decode,
     bf16_dot,
     rq_bf16_check,
     false,
     PAIR(rq_bf16_pair_simd)},
    {{RQ_FORMAT_Q8_0, GGML_Q8_0, 0, RQ_Q8_0_WEIGHTS, sizeof(rq_block_q8_0), 0, "q8_0"},
     q8_0_row_bytes,
     q8_0_decode,
     q8_0_dot,
     rq_q8_0_check,
     true,
     PAIR(rq_q8_0_pair_simd)},
    OWN(RQ_FORMAT_PI_Q3, "pi-q3", pi_q3, sizeof(rq_block_3bit)),
    OWN(RQ_FORMAT_PI_Q2, "pi-q2", pi_q2, sizeof(rq_block_2bit)),
    OWN(RQ_FORMAT_PI_T3, "pi-t3", pi_t3, sizeof(rq_block_3bit)),
    OWN(RQ_FORMAT_PI_T2, "pi-t2", pi_t2, sizeof(rq_block_2bit)),
    OWN(RQ_FORMAT_TERNARY, "ternary", ternary, sizeof(rq_block_2bit)),
    OWN(RQ_FORMAT_PI_TERNARY, "pi-ternary", ternary, sizeof(rq_block_2bit)),
    {{RQ_FORMAT_PI_Q3_RUVLLM, RUVLLM_Q3, 0, RQ_BLOCK, sizeof(rq_block_q3_ruvllm), 0, "pi-q3-ruvllm"},
     q3_ruvllm_row_bytes,
     q3_ruvllm_decode,
     q3_ruvllm_dot,
     rq_q3_ruvllm_check,
     true,
     NULL},
    {{RQ_FORMAT_PI_Q2_RUVLLM, RUVLLM_Q2, 0, RQ_BLOCK, sizeof(rq_block_q2_ruvllm), 0, "pi-q2-ruvllm"},
     q2_ruvllm_row_bytes,
     q2_ruvllm_decode,
     q2_ruvllm_dot,
     rq_q2_ruvllm_check,
     true,
     NULL},
};

const rq_format *rq_format_get(int32_t format) {
  return format >= 0 && format < RQ_FORMAT_COUNT ? &formats[format] : NULL;
}

int32_t rq_format_of_ggml(int32_t ggml_type) {
  for (int32_t i = 0; i < RQ_FORMAT_COUNT; i++) {
    const rq_format_info *info = &formats[i].info;
    if (info->ggml_type == ggml_type && !info->own && ggml_type != RUVLLM_Q3 && ggml_type != RUVLLM_Q2)
      return i;
  }
  return RQ_FORMAT_NONE;
}

int32_t rq_format_named(const char *name, int32_t bytes) {
  for (int32_t i = 0; i < RQ_FORMAT_COUNT; i++)
    if (bytes >= 0 && rq_length(formats[i].info.name) == (size_t)bytes &&
        rq_equal(formats[i].info.name, name, (size_t)bytes))
      return i;
  return RQ_FORMAT_NONE;
}

int32_t RQ_EXPORT rq_format_describe(int32_t format, rq_format_info *info) {
  const rq_format *entry = rq_format_get(format);
  if (!entry || !info) return RQ_E_ARGUMENT;
  *info = entry->info;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_format_row_bytes(int32_t format, int32_t width) {
  const rq_format *entry = rq_format_get(format);
  if (!entry) return RQ_E_ARGUMENT;
  if (width < 1 || width > RQ_MAX_WIDTH) return RQ_E_SHAPE;
  int32_t bytes = entry->row_bytes(width);
  return bytes < 0 ? RQ_E_SHAPE : bytes;
}

/* ---- exported work on rows ---- */

/* The entry of a format after the checks that all of them share; NULL with error filled in. */
static const rq_format *open_rows(rq_error *error, int32_t format, const uint8_t *data, int32_t rows,
                                  int32_t width, int32_t *row_bytes) {
  const rq_format *entry = rq_format_get(format);
  if (!entry) {
    rq_fail(error, RQ_E_ARGUMENT, "format");
    rq_expected(error, "0 to %d", (int32_t)RQ_FORMAT_COUNT - 1);
    rq_actual(error, "%d", format);
    return NULL;
  }
  *row_bytes = rq_format_row_bytes(format, width);
  if (*row_bytes < 0) {
    rq_fail(error, RQ_E_SHAPE, "rows of %s", entry->info.name);
    if (entry->info.any_width)
      rq_expected(error, "a width of 1 to %d and rows below 2 GiB", (int32_t)RQ_MAX_WIDTH);
    else
      rq_expected(error, "a multiple of %d weights, at most %d", entry->info.block_weights,
                  (int32_t)RQ_MAX_WIDTH);
    rq_actual(error, "a width of %d", width);
    rq_hint(error, entry->info.any_width ? "split the rows" : "choose a format that takes any width");
    return NULL;
  }
  if (rows < 0 || (rows > 0 && !data)) {
    rq_fail(error, RQ_E_ARGUMENT, "rows of %s", entry->info.name);
    rq_expected(error, "a count of rows of at least 0, and data");
    rq_actual(error, "%d rows", rows);
    return NULL;
  }
  return entry;
}

/* open_rows tells only that it failed; which of its two codes follows from the arguments. */
static int32_t open_code(int32_t format, int32_t width) {
  int32_t bytes = rq_format_row_bytes(format, width);
  return bytes < 0 ? bytes : RQ_E_ARGUMENT;
}

int32_t RQ_EXPORT rq_decode(rq_error *error, int32_t format, const uint8_t *data, int32_t rows, int32_t width,
                            float *out, int32_t variant) {
  int32_t row_bytes;
  const rq_format *entry = open_rows(error, format, data, rows, width, &row_bytes);
  if (!entry) return open_code(format, width);
  uint32_t saved = rq_fp_enter();
  for (int32_t r = 0; r < rows; r++)
    entry->decode(data + (size_t)r * (size_t)row_bytes, width, out + (size_t)r * (size_t)width, variant);
  rq_fp_leave(saved);
  return RQ_OK;
}

int32_t RQ_EXPORT rq_check_rows(rq_error *error, int32_t format, const uint8_t *data, int32_t rows,
                                int32_t width) {
  int32_t row_bytes;
  const rq_format *entry = open_rows(error, format, data, rows, width, &row_bytes);
  if (!entry) return open_code(format, width);
  for (int32_t r = 0; r < rows; r++) {
    rq_error detail;
    int32_t code = entry->check(&detail, data + (size_t)r * (size_t)row_bytes, width);
    if (code >= 0) continue;
    rq_fail(error, code, "row %d of %s, %s", r, entry->info.name, detail.subject);
    rq_expected(error, "%s", detail.expected);
    rq_actual(error, "%s", detail.actual);
    rq_hint(error,
            "the data is damaged or was not written for this format: get the file again, or quantize again");
    return code;
  }
  return RQ_OK;
}

void rq_rows_dot(const rq_format *format, const uint8_t *data, int32_t width, int32_t first, int32_t last,
                 const rq_activations *a, float *y, int32_t variant) {
  size_t row_bytes = (size_t)format->row_bytes(width);
  for (int32_t r = first; r < last; r++) y[r] = format->dot(data + (size_t)r * row_bytes, a, variant);
}

enum { PIECE_BYTES = 16384 };

/* Up to PAIR_VECTORS vectors through the format's pair kernel. */
static void rows_pairs(const rq_format *format, const uint8_t *data, size_t row_bytes, int32_t first,
                       int32_t last, const rq_activations *a, int32_t count, float *y, size_t stride) {
  for (int32_t r = first; r < last; r += 2) {
    int32_t other = rq_min_i32(r + 1, last - 1);
    format->pair(data + (size_t)r * row_bytes, data + (size_t)other * row_bytes, a, count, y + r, y + other,
                 stride);
  }
}

/* Without one: a piece of rows that stays in the cache meets every vector. */
static void rows_pieces(const rq_format *format, const uint8_t *data, int32_t row_bytes, int32_t width,
                        int32_t first, int32_t last, const rq_activations *a, int32_t count, float *y,
                        size_t stride, int32_t variant) {
  int32_t piece = rq_max_i32(1, PIECE_BYTES / row_bytes);
  for (int32_t r = first; r < last; r += piece)
    for (int32_t t = 0; t < count; t++)
      rq_rows_dot(format, data, width, r, rq_min_i32(last, r + piece), a + t, y + (size_t)t * stride,
                  variant);
}

void rq_rows_product(const rq_format *format, const uint8_t *data, int32_t width, int32_t first, int32_t last,
                     const rq_activations *a, int32_t count, float *y, size_t stride, int32_t variant) {
  int32_t row_bytes = format->row_bytes(width);
  if (count == 1 || variant != RQ_SIMD || !format->pair) {
    rows_pieces(format, data, row_bytes, width, first, last, a, count, y, stride, variant);
    return;
  }
  for (int32_t t = 0; t < count; t += PAIR_VECTORS)
    rows_pairs(format, data, (size_t)row_bytes, first, last, a + t, rq_min_i32(count - t, PAIR_VECTORS),
               y + (size_t)t * stride, stride);
}

int32_t RQ_EXPORT rq_matvec_scratch(int32_t format, int32_t width) {
  int32_t bytes = rq_format_row_bytes(format, width);
  if (bytes < 0) return bytes;
  rq_arena arena = rq_arena_of(NULL, NULL);
  rq_activations activations;
  rq_activations_layout(&arena, width, &activations);
  return (int32_t)arena.used + 64; /* the scratch itself may start anywhere */
}

int32_t RQ_EXPORT rq_matvec(rq_error *error, int32_t format, const uint8_t *data, int32_t rows, int32_t width,
                            const float *x, float *y, void *scratch, void *scratch_end, int32_t variant) {
  int32_t row_bytes;
  const rq_format *entry = open_rows(error, format, data, rows, width, &row_bytes);
  if (!entry) return open_code(format, width);
  uint8_t *begin = scratch;
  begin += (64 - ((uintptr_t)begin & 63)) & 63;
  int32_t needed = rq_matvec_scratch(format, width);
  if (!scratch || (uint8_t *)scratch_end - (uint8_t *)scratch < needed) {
    rq_fail(error, RQ_E_MEMORY, "scratch of matvec");
    rq_expected(error, "%d bytes", needed);
    rq_actual(error, "fewer");
    return RQ_E_MEMORY;
  }
  rq_arena arena = rq_arena_of(begin, scratch_end);
  rq_activations activations;
  rq_activations_layout(&arena, width, &activations);
  uint32_t saved = rq_fp_enter();
  int32_t code = rq_activations_set(error, &activations, x, width, entry->quantized, variant);
  if (code >= 0) rq_rows_dot(entry, data, width, 0, rows, &activations, y, variant);
  rq_fp_leave(saved);
  return code;
}
