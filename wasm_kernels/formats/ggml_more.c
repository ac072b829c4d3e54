/* ggml_more.c: readers of the rest of ggml's block formats: Q8_K, IQ4_XS, the ternary TQ1_0 and TQ2_0, NVFP4,
 * Q1_0 and Q2_0. */
#include "ggml.h"

/* f32 d; 256 int8; 16 sums of i16, which nothing here needs. */
static void read_q8_k(const uint8_t *block, rq_ggml_block *out) {
  __builtin_memcpy(&out->scale[0], block, sizeof(float));
  rq_copy(out->value, block + 4, RQ_BLOCK);
}

/* f16 d; u16 high, two bits a scale; low (4), four bits a scale; codes (8, 16): weights 32p + j in the lower,
 * 32p + 16 + j in the upper bits. */
static void read_iq4_xs(const uint8_t *block, rq_ggml_block *out) {
  float d = rq_read_f16(block);
  uint32_t high = rq_read_u16(block + 2);
  for (int32_t p = 0; p < 8; p++) {
    uint32_t low = block[4 + p / 2] >> (4 * (p % 2)) & 15u;
    out->scale[p] = d * (float)((int32_t)(low | (high >> (2 * p) & 3) << 4) - 32);
    const uint8_t *codes = block + 8 + 16 * p;
    for (int32_t j = 0; j < 16; j++) {
      out->value[32 * p + j] = rq_values_iq4[codes[j] & 15];
      out->value[32 * p + 16 + j] = rq_values_iq4[codes[j] >> 4];
    }
  }
}

/* Digit `n` of a byte that holds base-3 digits as a fraction of 256: the leading one is n = 0. */
static int8_t digit(uint8_t byte, int32_t n) {
  static const uint8_t powers[5] = {1, 3, 9, 27, 81};
  return (int8_t)(((byte * powers[n] & 255) * 3 >> 8) - 1);
}

/* 32 bytes with weights 32n + j in digit n of byte j, 16 bytes with 160 + 16n + j, 4 bytes with 240 + 4n + j;
 * f16 d. */
static void read_tq1_0(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block + 52);
  for (int32_t i = 0; i < 160; i++) out->value[i] = digit(block[i % 32], i / 32);
  for (int32_t i = 0; i < 80; i++) out->value[160 + i] = digit(block[32 + i % 16], i / 16);
  for (int32_t i = 0; i < 16; i++) out->value[240 + i] = digit(block[48 + i % 4], i / 4);
}

/* codes (2, 32): row h, byte i holds weights 128h + 32j + i in bits 2j, 2j + 1; f16 d. */
static void read_tq2_0(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block + 64);
  for (int32_t i = 0; i < RQ_BLOCK; i++)
    out->value[i] = (int8_t)((block[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4)) & 3) - 1);
}

/* An unsigned E4M3 number (bias 7), halved because the table holds twice the values; 0x7F counts as 0. */
static float half_of_e4m3(uint32_t byte) {
  uint32_t exponent = byte >> 3 & 15, fraction = byte & 7;
  if (byte == 0x7F) return 0.0f;
  if (exponent == 0) return (float)fraction * 0x1p-10f;
  return (float)((8 + fraction) << exponent) * 0x1p-11f;
}

/* Four scales; codes (4, 8): weights 16p + j in the lower, 16p + 8 + j in the upper bits. */
static void read_nvfp4(const uint8_t *block, rq_ggml_block *out) {
  for (int32_t p = 0; p < 4; p++) {
    out->scale[p] = half_of_e4m3(block[p]);
    const uint8_t *codes = block + 4 + 8 * p;
    for (int32_t j = 0; j < 8; j++) {
      out->value[16 * p + j] = rq_values_fp4[codes[j] & 15];
      out->value[16 * p + 8 + j] = rq_values_fp4[codes[j] >> 4];
    }
  }
}

/* f16 d; 128 bits: 1 is d, 0 is -d. */
static void read_q1_0(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  for (int32_t i = 0; i < 128; i++) out->value[i] = block[2 + i / 8] >> (i % 8) & 1 ? 1 : -1;
}

/* f16 d; 64 codes of two bits, code - 1. */
static void read_q2_0(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  for (int32_t i = 0; i < 64; i++) out->value[i] = (int8_t)((block[2 + i / 4] >> (2 * (i % 4)) & 3) - 1);
}

const rq_ggml rq_ggml_q8_k = {RQ_BLOCK, 292, RQ_BLOCK, false, read_q8_k, {3, -1}};
const rq_ggml rq_ggml_iq4_xs = {RQ_BLOCK, 136, 32, false, read_iq4_xs, {1, -1}};
const rq_ggml rq_ggml_tq1_0 = {RQ_BLOCK, 54, RQ_BLOCK, false, read_tq1_0, {53, -1}};
const rq_ggml rq_ggml_tq2_0 = {RQ_BLOCK, 66, RQ_BLOCK, false, read_tq2_0, {65, -1}};
const rq_ggml rq_ggml_nvfp4 = {64, 36, 16, false, read_nvfp4, {-1, -1}};
const rq_ggml rq_ggml_q1_0 = {128, 18, 128, false, read_q1_0, {1, -1}};
const rq_ggml rq_ggml_q2_0 = {64, 18, 64, false, read_q2_0, {1, -1}};
