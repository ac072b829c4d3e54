/* foreign.c: F32, F16, BF16, Q8_0 and ruvllm's two block formats, the plain scalar reference. */
#include "foreign.h"

/* ---- floats: product sums in 16 lanes, lane l takes weights l, l + 16, ... ---- */

static float load_f16(const uint8_t *row, int32_t i) { return rq_f16_to_f32(rq_load_u16(row, i)); }
static float load_bf16(const uint8_t *row, int32_t i) { return rq_bf16_to_f32(rq_load_u16(row, i)); }

#define DEFINE_FLOAT_FORMAT(name, load)                                           \
  void rq_##name##_decode_scalar(const uint8_t *row, int32_t width, float *out) { \
    for (int32_t i = 0; i < width; i++) out[i] = load(row, i);                    \
  }                                                                               \
  float rq_##name##_dot_scalar(const uint8_t *row, const rq_activations *a) {     \
    float lanes[RQ_LANES] = {0.0f};                                               \
    for (int32_t i = 0; i < a->width; i++)                                        \
      lanes[i % RQ_LANES] = lanes[i % RQ_LANES] + a->x[i] * load(row, i);         \
    return rq_sum16(lanes);                                                       \
  }
DEFINE_FLOAT_FORMAT(f32, rq_load_f32)
DEFINE_FLOAT_FORMAT(f16, load_f16)
DEFINE_FLOAT_FORMAT(bf16, load_bf16)

/* ---- Q8_0: 32 weights, one f16 scale ---- */

void rq_q8_0_decode_scalar(const uint8_t *row, int32_t width, float *out) {
  const rq_block_q8_0 *blocks = (const rq_block_q8_0 *)row;
  for (int32_t i = 0; i < width; i++) {
    const rq_block_q8_0 *block = blocks + i / RQ_Q8_0_WEIGHTS;
    out[i] = (float)block->q[i % RQ_Q8_0_WEIGHTS] * rq_f16_to_f32(rq_read_u16(block->d));
  }
}

float rq_q8_0_dot_scalar(const uint8_t *row, const rq_activations *a) {
  const rq_block_q8_0 *blocks = (const rq_block_q8_0 *)row;
  float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int32_t b = 0; b < a->width / RQ_Q8_0_WEIGHTS; b++) {
    const int8_t *q = a->q + RQ_Q8_0_WEIGHTS * b;
    int32_t sum = 0;
    for (int32_t i = 0; i < RQ_Q8_0_WEIGHTS; i++) sum += blocks[b].q[i] * q[i];
    float t = rq_f16_to_f32(rq_read_u16(blocks[b].d)) * a->scale[RQ_Q8_0_WEIGHTS * b / RQ_BLOCK];
    acc[b % 4] = acc[b % 4] + (float)sum * t;
  }
  return rq_sum4(acc);
}

/* ---- ruvllm's blocks of 256: codes in their natural order, one f16 step ---- */

static int32_t q3_ruvllm_value(const uint8_t *codes, int32_t i) {
  const uint8_t *group = codes + 3 * (i / 8);
  uint32_t bits = (uint32_t)group[0] | (uint32_t)group[1] << 8 | (uint32_t)group[2] << 16;
  return (int32_t)(bits >> (3 * (i % 8)) & 7) - 4;
}

static int32_t q2_ruvllm_value(const uint8_t *codes, int32_t i) {
  return (int32_t)((uint32_t)codes[i / 4] >> (2 * (i % 4)) & 3) - 2;
}

#define DEFINE_RUVLLM_FORMAT(name)                                                                     \
  void rq_##name##_decode(const uint8_t *row, int32_t width, float *out) {                             \
    const rq_block_##name *blocks = (const rq_block_##name *)row;                                      \
    for (int32_t i = 0; i < width; i++) {                                                              \
      const rq_block_##name *block = blocks + i / RQ_BLOCK;                                            \
      out[i] = (float)name##_value(block->codes, i % RQ_BLOCK) * rq_f16_to_f32(rq_read_u16(block->d)); \
    }                                                                                                  \
  }                                                                                                    \
  float rq_##name##_dot(const uint8_t *row, const rq_activations *a) {                                 \
    const rq_block_##name *blocks = (const rq_block_##name *)row;                                      \
    float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};                                                           \
    for (int32_t b = 0; b < a->width / RQ_BLOCK; b++) {                                                \
      int32_t sum = 0;                                                                                 \
      for (int32_t i = 0; i < RQ_BLOCK; i++)                                                           \
        sum += name##_value(blocks[b].codes, i) * a->q[RQ_BLOCK * b + i];                              \
      float t = rq_f16_to_f32(rq_read_u16(blocks[b].d)) * a->scale[b];                                 \
      acc[b % 4] = acc[b % 4] + (float)sum * t;                                                        \
    }                                                                                                  \
    return rq_sum4(acc);                                                                               \
  }
DEFINE_RUVLLM_FORMAT(q3_ruvllm)
DEFINE_RUVLLM_FORMAT(q2_ruvllm)

/* ---- validation: no NaN, no infinity ---- */

static int32_t not_finite(rq_error *error, const char *what, int32_t position, uint32_t bits) {
  rq_fail(error, RQ_E_DATA, "%s %d", what, position);
  rq_expected(error, "a finite number");
  rq_actual(error, "bits 0x%x", bits);
  return RQ_E_DATA;
}

int32_t rq_f32_check(rq_error *error, const uint8_t *row, int32_t width) {
  for (int32_t i = 0; i < width; i++) {
    uint32_t bits;
    __builtin_memcpy(&bits, row + 4 * (size_t)i, sizeof bits);
    if ((bits & 0x7F800000) == 0x7F800000) return not_finite(error, "weight", i, bits);
  }
  return RQ_OK;
}

static int32_t check_u16(rq_error *error, const uint8_t *row, int32_t width, uint32_t exponent) {
  for (int32_t i = 0; i < width; i++) {
    uint32_t bits = rq_load_u16(row, i);
    if ((bits & exponent) == exponent) return not_finite(error, "weight", i, bits);
  }
  return RQ_OK;
}

int32_t rq_f16_check(rq_error *error, const uint8_t *row, int32_t width) {
  return check_u16(error, row, width, 0x7C00);
}

int32_t rq_bf16_check(rq_error *error, const uint8_t *row, int32_t width) {
  return check_u16(error, row, width, 0x7F80);
}

/* The f16 scales at `offset` in each of `blocks` blocks of `bytes`. */
static int32_t check_scales(rq_error *error, const uint8_t *row, int32_t blocks, int32_t bytes,
                            int32_t offset) {
  for (int32_t b = 0; b < blocks; b++) {
    uint32_t bits = rq_read_u16(row + (size_t)bytes * (size_t)b + offset);
    if ((bits & 0x7C00) == 0x7C00) return not_finite(error, "the scale of block", b, bits);
  }
  return RQ_OK;
}

int32_t rq_q8_0_check(rq_error *error, const uint8_t *row, int32_t width) {
  return check_scales(error, row, width / RQ_Q8_0_WEIGHTS, sizeof(rq_block_q8_0), 0);
}

int32_t rq_q3_ruvllm_check(rq_error *error, const uint8_t *row, int32_t width) {
  return check_scales(error, row, width / RQ_BLOCK, sizeof(rq_block_q3_ruvllm),
                      offsetof(rq_block_q3_ruvllm, d));
}

int32_t rq_q2_ruvllm_check(rq_error *error, const uint8_t *row, int32_t width) {
  return check_scales(error, row, width / RQ_BLOCK, sizeof(rq_block_q2_ruvllm),
                      offsetof(rq_block_q2_ruvllm, d));
}
