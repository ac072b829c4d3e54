/* foreign.h: formats that others define: floats, ggml's Q8_0 and ruvllm's blocks (type ids 40 and 41 in
 * its namespace). Scalar references; the SIMD versions are in simd_foreign.c. */
#ifndef RQ_FOREIGN_H
#define RQ_FOREIGN_H
#include "blocks.h"

/* Weight i of a row of f32, f16 or bf16. Rows may lie at any address. */
static inline float rq_load_f32(const uint8_t *row, int32_t i) {
  float value;
  __builtin_memcpy(&value, row + 4 * (size_t)i, sizeof value);
  return value;
}
static inline uint16_t rq_load_u16(const uint8_t *row, int32_t i) {
  uint16_t value;
  __builtin_memcpy(&value, row + 2 * (size_t)i, sizeof value);
  return value;
}

void rq_f32_decode_scalar(const uint8_t *row, int32_t width, float *out);
void rq_f16_decode_scalar(const uint8_t *row, int32_t width, float *out);
void rq_bf16_decode_scalar(const uint8_t *row, int32_t width, float *out);
void rq_q8_0_decode_scalar(const uint8_t *row, int32_t width, float *out);
void rq_q3_ruvllm_decode(const uint8_t *row, int32_t width, float *out);
void rq_q2_ruvllm_decode(const uint8_t *row, int32_t width, float *out);

float rq_f32_dot_scalar(const uint8_t *row, const rq_activations *a);
float rq_f16_dot_scalar(const uint8_t *row, const rq_activations *a);
float rq_bf16_dot_scalar(const uint8_t *row, const rq_activations *a);
float rq_q8_0_dot_scalar(const uint8_t *row, const rq_activations *a);
float rq_q3_ruvllm_dot(const uint8_t *row, const rq_activations *a);
float rq_q2_ruvllm_dot(const uint8_t *row, const rq_activations *a);

int32_t rq_f32_check(rq_error *error, const uint8_t *row, int32_t width);
int32_t rq_f16_check(rq_error *error, const uint8_t *row, int32_t width);
int32_t rq_bf16_check(rq_error *error, const uint8_t *row, int32_t width);
int32_t rq_q8_0_check(rq_error *error, const uint8_t *row, int32_t width);
int32_t rq_q3_ruvllm_check(rq_error *error, const uint8_t *row, int32_t width);
int32_t rq_q2_ruvllm_check(rq_error *error, const uint8_t *row, int32_t width);

/* The fixed tree over 16 lanes that ends every product of floats: l and l + 8, then 4, 2, 1. */
static inline float rq_sum16(float *lanes) {
  for (int32_t half = 8; half > 0; half /= 2)
    for (int32_t l = 0; l < half; l++) lanes[l] = lanes[l] + lanes[l + half];
  return lanes[0];
}

#endif
