/* simd_kernels.h: the 128-bit kernels of this build, absent where the target has no such instructions.
 * Each gives the same bits as its scalar reference. */
#ifndef RQ_SIMD_KERNELS_H
#define RQ_SIMD_KERNELS_H
#include "blocks.h"
#include "simd.h"

enum { RQ_PRODUCT_VECTORS = 16 }; /* that a pair kernel takes at once */

#if RQ_HAVE_SIMD

/* Bytes of a block's activations in lanes. */
enum { RQ_LANE_BLOCK_BYTES = RQ_LANES * RQ_STEP_BYTES };

/* simd_own.c: ruvq's own formats. */
void rq_own_decode_simd(const rq_own *own, const uint8_t *row, int32_t width, float *out);

/* simd_mixed.c: bytes of a block's first `steps` steps less `offset`; beyond the last group untouched. */
void rq_mixed_values_simd(const rq_own *own, const uint8_t *block, int32_t steps, int8_t offset,
                          rq_vi *values /* (RQ_LANES) */);

/* simd_rows.c, simd_mixed.c: y[r] = row r . a; a dot is one row. */
#define RQ_DECLARE_ROWS(name)                                                                              \
  void rq_##name##_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a, \
                             float *y);                                                                    \
  float rq_##name##_dot_simd(const uint8_t *row, const rq_activations *a);
RQ_DECLARE_ROWS(pi_q3)
RQ_DECLARE_ROWS(pi_q2)
RQ_DECLARE_ROWS(pi_t3)
RQ_DECLARE_ROWS(pi_t2)
RQ_DECLARE_ROWS(ternary)
RQ_DECLARE_ROWS(pi_x3)
RQ_DECLARE_ROWS(pi_x2)

/* simd_product.c: two rows (which may be the same) times up to RQ_PRODUCT_VECTORS vectors of activations,
 * y0[t * stride] = row0 . a[t] and y1 likewise. */
#define RQ_DECLARE_PAIR(name)                                                                   \
  void rq_##name##_pair_simd(const uint8_t *row0, const uint8_t *row1, const rq_activations *a, \
                             int32_t count, float *y0, float *y1, size_t stride);
RQ_DECLARE_PAIR(pi_q3)
RQ_DECLARE_PAIR(pi_q2)
RQ_DECLARE_PAIR(pi_t3)
RQ_DECLARE_PAIR(pi_t2)
RQ_DECLARE_PAIR(ternary)
RQ_DECLARE_PAIR(pi_x3)
RQ_DECLARE_PAIR(pi_x2)
RQ_DECLARE_PAIR(f32) /* these in simd_foreign.c */
RQ_DECLARE_PAIR(f16)
RQ_DECLARE_PAIR(bf16)
RQ_DECLARE_PAIR(q8_0)

/* simd_foreign.c: floats and Q8_0. */
void rq_f32_decode_simd(const uint8_t *row, int32_t width, float *out);
void rq_f16_decode_simd(const uint8_t *row, int32_t width, float *out);
void rq_bf16_decode_simd(const uint8_t *row, int32_t width, float *out);
void rq_q8_0_decode_simd(const uint8_t *row, int32_t width, float *out);
float rq_f32_dot_simd(const uint8_t *row, const rq_activations *a);
float rq_f16_dot_simd(const uint8_t *row, const rq_activations *a);
float rq_bf16_dot_simd(const uint8_t *row, const rq_activations *a);
float rq_q8_0_dot_simd(const uint8_t *row, const rq_activations *a);

/* simd_ggml.c: those of ggml's formats that have kernels of their own. */
#define RQ_DECLARE_GGML(name)                                                  \
  void rq_##name##_decode_simd(const uint8_t *row, int32_t width, float *out); \
  float rq_##name##_dot_simd(const uint8_t *row, const rq_activations *a);     \
  RQ_DECLARE_PAIR(name)
RQ_DECLARE_GGML(q4_0)
RQ_DECLARE_GGML(q4_1)
RQ_DECLARE_GGML(q5_0)
RQ_DECLARE_GGML(q5_1)
RQ_DECLARE_GGML(iq4_nl)
RQ_DECLARE_GGML(mxfp4)
RQ_DECLARE_GGML(q2_k)
RQ_DECLARE_GGML(q3_k)
RQ_DECLARE_GGML(q4_k)
RQ_DECLARE_GGML(q5_k)
RQ_DECLARE_GGML(q6_k)
RQ_DECLARE_GGML(iq4_xs)
RQ_DECLARE_GGML(tq2_0)

/* simd_rows_32.c: y[r] = row r . a. */
#define RQ_DECLARE_ROWS_32(name)                                                                           \
  void rq_##name##_rows_simd(const uint8_t *data, size_t row_bytes, int32_t rows, const rq_activations *a, \
                             float *y);
RQ_DECLARE_ROWS_32(q8_0)
RQ_DECLARE_ROWS_32(q4_0)
RQ_DECLARE_ROWS_32(q4_1)
RQ_DECLARE_ROWS_32(q5_0)
RQ_DECLARE_ROWS_32(q5_1)
RQ_DECLARE_ROWS_32(iq4_nl)
RQ_DECLARE_ROWS_32(mxfp4)

/* simd_activations.c: activations and the Hadamard transform. */
void rq_quantize_block_simd(const float *x, int32_t r, float dx, int8_t *q);
/* A block's q (256, zero padded), of which r are weights, to lanes. */
void rq_lanes_simd(const int8_t *q, int32_t r, int8_t *lanes);
/* Sums of q over each 16 of a block. */
void rq_part_sums_simd(const int8_t *q, int32_t *sums /* (16) */);
#if RQ_LANES_WIDE
/* A block's q (256) in its own order, for the kernels of ggml's formats: of each 16, the even ones e, then
 * o - 256 e with the odd ones o. */
void rq_steps_simd(const int8_t *q, int8_t *steps);
#endif
void rq_hadamard_piece_simd(float *x, const float *signs, int32_t size /* 16 or more */, float factor,
                            bool inverse);

#endif
#endif
