/* rows.c: work on rows of any format: the exported functions that take a format's number, and the products
 * that the engine calls. */
#include "../base/fpenv.h"
#include "levels.h"
#include "simd_kernels.h"

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
    rq_format_refuse_width(error, RQ_E_SHAPE, entry, width);
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
  variant = rq_variant(variant);
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

/* Up to RQ_PRODUCT_VECTORS vectors through the format's pair kernel. */
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
  rq_product_kernel kernel = rq_product_kernel_of(format->info.format, variant);
  if (kernel) {
    if (last <= first) return;
    const uint8_t *rows = data + (size_t)first * (size_t)row_bytes;
    for (int32_t t = 0; t < count; t += RQ_KERNEL_VECTORS)
      kernel(rows, (size_t)row_bytes, last - first, a + t, rq_min_i32(count - t, RQ_KERNEL_VECTORS),
             y + (size_t)t * stride + first, stride);
    return;
  }
  if (count == 1 || variant == RQ_SCALAR || !format->pair) {
    rows_pieces(format, data, row_bytes, width, first, last, a, count, y, stride, variant);
    return;
  }
  for (int32_t t = 0; t < count; t += RQ_PRODUCT_VECTORS)
    rows_pairs(format, data, (size_t)row_bytes, first, last, a + t, rq_min_i32(count - t, RQ_PRODUCT_VECTORS),
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
  variant = rq_variant(variant);
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
  if (code >= 0) rq_rows_product(entry, data, width, 0, rows, &activations, 1, y, (size_t)rows, variant);
  rq_fp_leave(saved);
  return code;
}
