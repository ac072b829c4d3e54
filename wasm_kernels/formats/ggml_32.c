/* ggml_32.c: readers of ggml's blocks of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, Q8_1, IQ4_NL and MXFP4. Byte j
 * of the codes holds weight j in its lower and weight j + 16 in its upper four bits. */
#include "ggml.h"

enum { WEIGHTS = 32, HALF = 16 };

const int8_t rq_values_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t rq_values_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* value[i] = code - 2^bits / 2 or code, with the fifth bits in `high`. */
static void read_codes(const uint8_t *codes, uint32_t high, int32_t zero, int8_t *value /* (32) */) {
  for (int32_t j = 0; j < HALF; j++) {
    uint32_t low_fifth = high >> j & 1, high_fifth = high >> (j + HALF) & 1;
    value[j] = (int8_t)((int32_t)((codes[j] & 15u) | low_fifth << 4) - zero);
    value[j + HALF] = (int8_t)((int32_t)((uint32_t)codes[j] >> 4 | high_fifth << 4) - zero);
  }
}

static void read_table(const uint8_t *codes, const int8_t *table /* (16) */, int8_t *value /* (32) */) {
  for (int32_t j = 0; j < HALF; j++) {
    value[j] = table[codes[j] & 15];
    value[j + HALF] = table[codes[j] >> 4];
  }
}

/* f16 d; codes. */
static void read_q4_0(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  read_codes(block + 2, 0, 8, out->value);
}

/* f16 d; f16 m; codes. */
static void read_q4_1(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  out->offset[0] = rq_read_f16(block + 2);
  read_codes(block + 4, 0, 0, out->value);
}

/* f16 d; 32 fifth bits; codes. */
static void read_q5_0(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  read_codes(block + 6, rq_read_u32(block + 2), 16, out->value);
}

/* f16 d; f16 m; 32 fifth bits; codes. */
static void read_q5_1(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  out->offset[0] = rq_read_f16(block + 2);
  read_codes(block + 8, rq_read_u32(block + 4), 0, out->value);
}

/* f16 d; f16 sum of the weights, which nothing here needs; 32 int8. */
static void read_q8_1(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  rq_copy(out->value, block + 4, WEIGHTS);
}

/* f16 d; codes of a table. */
static void read_iq4_nl(const uint8_t *block, rq_ggml_block *out) {
  out->scale[0] = rq_read_f16(block);
  read_table(block + 2, rq_values_iq4, out->value);
}

/* Byte e: the scale 2^(e - 127), halved because the table holds twice the values; codes of the table. */
static void read_mxfp4(const uint8_t *block, rq_ggml_block *out) {
  uint32_t e = block[0], bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
  __builtin_memcpy(&out->scale[0], &bits, sizeof bits);
  read_table(block + 1, rq_values_fp4, out->value);
}

const rq_ggml rq_ggml_q4_0 = {WEIGHTS, 18, WEIGHTS, false, read_q4_0, {1, -1}};
const rq_ggml rq_ggml_q4_1 = {WEIGHTS, 20, WEIGHTS, true, read_q4_1, {1, 3}};
const rq_ggml rq_ggml_q5_0 = {WEIGHTS, 22, WEIGHTS, false, read_q5_0, {1, -1}};
const rq_ggml rq_ggml_q5_1 = {WEIGHTS, 24, WEIGHTS, true, read_q5_1, {1, 3}};
const rq_ggml rq_ggml_q8_1 = {WEIGHTS, 36, WEIGHTS, false, read_q8_1, {1, -1}};
const rq_ggml rq_ggml_iq4_nl = {WEIGHTS, 18, WEIGHTS, false, read_iq4_nl, {1, -1}};
const rq_ggml rq_ggml_mxfp4 = {WEIGHTS, 17, WEIGHTS, false, read_mxfp4, {0, -1}};
