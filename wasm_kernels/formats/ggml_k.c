/* ggml_k.c: readers of ggml's blocks of 256 weights whose parts have small scales of their own: Q2_K, Q3_K,
 * Q4_K, Q5_K and Q6_K. Codes of up to 32 neighbouring weights share a row of bytes, each at its own bits. */
#include "ggml.h"

enum { ROW = 32 }; /* bytes in a row of codes */

/* scales (16): scale in the lower, minimum in the upper four bits; codes (2, 32): row h holds weights
 * 128h + 32j + i in bits 2j, 2j + 1 of byte i; f16 d; f16 dmin. */
static void read_q2_k(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *codes = block + 16;
  float d = rq_read_f16(block + 80), dmin = rq_read_f16(block + 82);
  for (int32_t p = 0; p < 16; p++) {
    out->scale[p] = d * (float)(block[p] & 15);
    out->offset[p] = -(dmin * (float)(block[p] >> 4));
  }
  for (int32_t i = 0; i < RQ_BLOCK; i++)
    out->value[i] = (int8_t)(codes[ROW * (i / 128) + i % ROW] >> (2 * (i / ROW % 4)) & 3);
}

/* high (32): bit g of byte i is the third bit of weight 32g + i; codes (2, 32) as in Q2_K; scales (12): six
 * bits each, four low bits of 0..7 and 8..15 in bytes 0..7, two high ones of 4j..4j+3 in bytes 8..11;
 * f16 d. */
static void read_q3_k(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *codes = block + 32, *scales = block + 96;
  float d = rq_read_f16(block + 108);
  for (int32_t p = 0; p < 16; p++) {
    int32_t low = scales[p % 8] >> (4 * (p / 8)) & 15, high = scales[8 + p % 4] >> (2 * (p / 4)) & 3;
    out->scale[p] = d * (float)((low | high << 4) - 32);
  }
  for (int32_t i = 0; i < RQ_BLOCK; i++) {
    int32_t low = codes[ROW * (i / 128) + i % ROW] >> (2 * (i / ROW % 4)) & 3;
    out->value[i] = (int8_t)((low | (block[i % ROW] >> (i / ROW) & 1) << 2) - 4);
  }
}

/* f16 d; f16 dmin; eight scales and eight minimums of six bits in 12 bytes: those of 0..3 in the low bits
 * of bytes 0..3 and 4..7; of 4..7 four bits in bytes 8..11 and two at the top of bytes 0..7. */
static void read_scales_8(const uint8_t *block, rq_ggml_block *out) {
  float d = rq_read_f16(block), dmin = rq_read_f16(block + 2);
  const uint8_t *packed = block + 4;
  for (int32_t p = 0; p < 8; p++) {
    int32_t j = p % 4, scale, minimum;
    if (p < 4) {
      scale = packed[j] & 63;
      minimum = packed[4 + j] & 63;
    } else {
      scale = (packed[8 + j] & 15) | (packed[j] >> 6) << 4;
      minimum = packed[8 + j] >> 4 | (packed[4 + j] >> 6) << 4;
    }
    out->scale[p] = d * (float)scale;
    out->offset[p] = -(dmin * (float)minimum);
  }
}

/* Scales; codes (4, 32): row r holds weights 64r + i in the lower and 64r + 32 + i in the upper bits. */
static void read_q4_k(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *codes = block + 16;
  read_scales_8(block, out);
  for (int32_t i = 0; i < RQ_BLOCK; i++)
    out->value[i] = (int8_t)(codes[ROW * (i / 64) + i % ROW] >> (4 * (i / ROW % 2)) & 15);
}

/* Scales; high (32): bit g of byte i is the fifth bit of weight 32g + i; codes as in Q4_K. */
static void read_q5_k(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *high = block + 16, *codes = block + 48;
  read_scales_8(block, out);
  for (int32_t i = 0; i < RQ_BLOCK; i++) {
    int32_t low = codes[ROW * (i / 64) + i % ROW] >> (4 * (i / ROW % 2)) & 15;
    out->value[i] = (int8_t)(low | (high[i % ROW] >> (i / ROW) & 1) << 4);
  }
}

/* low (2, 64): row h, byte i has weights 128h + i and 128h + 64 + i; high (2, 32): row h, byte i has the two
 * high bits of weights 128h + 32j + i in bits 2j, 2j + 1; scales (16) int8; f16 d. */
static void read_q6_k(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *high = block + 128;
  float d = rq_read_f16(block + 208);
  for (int32_t p = 0; p < 16; p++) out->scale[p] = d * (float)(int8_t)block[192 + p];
  for (int32_t i = 0; i < RQ_BLOCK; i++) {
    int32_t h = i / 128, low = block[64 * h + i % 64] >> (4 * (i / 64 % 2)) & 15;
    int32_t top = high[ROW * h + i % ROW] >> (2 * (i / ROW % 4)) & 3;
    out->value[i] = (int8_t)((low | top << 4) - 32);
  }
}

const rq_ggml rq_ggml_q2_k = {RQ_BLOCK, 84, 16, true, read_q2_k, {81, 83}};
const rq_ggml rq_ggml_q3_k = {RQ_BLOCK, 110, 16, false, read_q3_k, {109, -1}};
const rq_ggml rq_ggml_q4_k = {RQ_BLOCK, 144, 32, true, read_q4_k, {1, 3}};
const rq_ggml rq_ggml_q5_k = {RQ_BLOCK, 176, 32, true, read_q5_k, {1, 3}};
const rq_ggml rq_ggml_q6_k = {RQ_BLOCK, 210, 16, false, read_q6_k, {209, -1}};
