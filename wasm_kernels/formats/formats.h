/* formats.h: the registry of weight formats, one entry each, and the products of weights with
 * activations. What the bytes mean is docs/formats.md; nothing here knows files or models. */
#ifndef RQ_FORMATS_H
#define RQ_FORMATS_H
#include "../base/base.h"

enum { RQ_BLOCK = 256, RQ_LANES = 16 }; /* ruvq's own blocks */
enum { RQ_MAX_WIDTH = 1 << 28 };        /* weights in a row */

/* A vector made ready for products with quantized rows: int8 per block of 256 (and tail), in the
 * order of the weights and, for ruvq's own formats, in lanes; float formats read `x` itself. */
typedef struct rq_activations {
  const float *x;     /* (width) */
  int8_t *q;          /* (blocks, 256) natural order, zero padded */
  int8_t *lanes;      /* (blocks, steps, 16) lane order of docs/formats.md as this build's kernels read it */
  float *scale;       /* (blocks) dx */
  int32_t *group_sum; /* (blocks, 4) sum of q over each group of four lanes */
  int8_t *quads;      /* (blocks, 256) four steps of 16 lanes each; on x86-64, at RQ_AVX512 only */
  int8_t *steps; /* (blocks, 16 steps of 16) natural order in the form that this build's kernels multiply */
  int32_t *part_sum; /* (blocks, 8 + 16) sum of q over each 32, then over each 16 */
  int32_t width;
} rq_activations;

/* Bytes that rq_activations_layout takes from an arena for vectors up to `width`. */
void rq_activations_layout(rq_arena *arena, int32_t width, rq_activations *out);
/* Quantizes x (width) into `out`; RQ_E_NONFINITE on NaN or infinity. `quantized` is false when only
 * float formats will read it. */
int32_t rq_activations_set(rq_error *error, rq_activations *out, const float *x, int32_t width,
                           bool quantized, int32_t variant);
/* The same block by block (and tail), in any order and by any thread, after rq_activations_begin. */
void rq_activations_begin(rq_activations *out, const float *x, int32_t width);
int32_t rq_activations_block(rq_activations *out, int32_t block, bool quantized, int32_t variant);

typedef struct rq_format {
  rq_format_info info;
  int32_t (*row_bytes)(int32_t width); /* -1: can't hold it */
  void (*decode)(const uint8_t *row, int32_t width, float *out, int32_t variant);
  float (*dot)(const uint8_t *row, const rq_activations *a, int32_t variant);
  /* 0, or RQ_E_DATA with error filled in */
  int32_t (*check)(rq_error *error, const uint8_t *row, int32_t width);
  bool quantized; /* its products take int8 activations */
  /* NULL, or two rows (which may be the same) times up to 16 vectors: the weights are decoded once for all.
   * y0[t * stride] = row0 . a[t] and y1 likewise, the same bits as `dot` gives. SIMD only. */
  void (*pair)(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, int32_t count, float *y0,
               float *y1, size_t stride);
} rq_format;

/* The entry of a format, NULL when there is none. */
const rq_format *rq_format_get(int32_t format);
/* Fills in that rows of `width` don't fit the format; gives `code`. */
int32_t rq_format_refuse_width(rq_error *error, int32_t code, const rq_format *format, int32_t width);
/* The format of a ggml type id that ruvq computes with, or RQ_FORMAT_NONE. Ids 40 and 41 belong to other
 * formats unless the file says "ruvllm": a reader that has seen that key takes RQ_FORMAT_PI_Q3_RUVLLM and
 * RQ_FORMAT_PI_Q2_RUVLLM itself. */
int32_t rq_format_of_ggml(int32_t ggml_type);
/* The format named so (its exact lower-case name), or RQ_FORMAT_NONE. In ruvq.tensor.formats only those
 * with info.own are allowed. */
int32_t rq_format_named(const char *name, int32_t bytes);

/* y[r] = row r . a, for rows [first, last). */
void rq_rows_dot(const rq_format *format, const uint8_t *data, int32_t width, int32_t first, int32_t last,
                 const rq_activations *a, float *y /* (rows), written at [first, last) */, int32_t variant);

/* y[t * stride + r] = row r . a[t], for rows [first, last) and `count` vectors of the same width: the same
 * bits as rq_rows_dot for each of them, faster for more than one. */
void rq_rows_product(const rq_format *format, const uint8_t *data, int32_t width, int32_t first, int32_t last,
                     const rq_activations *a /* (count) */, int32_t count, float *y /* (count, stride) */,
                     size_t stride, int32_t variant);

/* Output i of SplitMix64, which is a function of the seed and i alone. */
uint64_t rq_splitmix(uint64_t seed, int32_t i);
/* H S x (or its inverse) for one vector; signs (its output's bit 63) come from rq_hadamard_signs. */
void rq_hadamard_signs(uint32_t seed_low, uint32_t seed_high, int32_t width, float *signs /* (width) +-1 */);
void rq_hadamard_apply(float *x, const float *signs, int32_t width, bool inverse, int32_t variant);

/* Q x (or its inverse) for one vector of at most RQ_ORTHOGONAL_MAX numbers. The reflections' vectors serve
 * all widths up to `table_width`, that of rq_orthogonal_vectors, which fills in rq_orthogonal_numbers of
 * them. */
int32_t rq_orthogonal_numbers(int32_t width);
void rq_orthogonal_vectors(uint32_t seed_low, uint32_t seed_high, int32_t width, float *vectors);
void rq_orthogonal_apply(float *x, const float *vectors, int32_t table_width, int32_t width, bool inverse);

#endif
