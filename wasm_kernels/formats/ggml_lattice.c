/* ggml_lattice.c: readers of ggml's IQ1, IQ2 and IQ3 formats: eight (or four) weights at a time are a point
 * of a codebook, with signs. The codebooks come from the gguf package (build/generate_codebooks.py). */
#include "codebooks.h" /* made by the build, in out/generated */
#include "ggml.h"

static const int8_t values_iq2[4] = {8, 25, 43, 0};
static const int8_t values_iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const int8_t values_iq3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};

/* Eight coordinates of a point, those with a bit in `signs` negative. */
static void put_8(uint32_t point, uint32_t signs, int8_t *value /* (8) */) {
  for (int32_t k = 0; k < 8; k++) {
    int32_t v = values_iq2[point >> (2 * k) & 3];
    value[k] = (int8_t)(signs >> k & 1 ? -v : v);
  }
}

static void put_4(uint32_t point, const int8_t *values, uint32_t signs, int8_t *value /* (4) */) {
  for (int32_t k = 0; k < 4; k++) {
    int32_t v = values[point >> (3 * k) & 7];
    value[k] = (int8_t)(signs >> k & 1 ? -v : v);
  }
}

/* Eight signs from seven: their number is even. */
static uint32_t even_signs(uint32_t seven) {
  uint32_t parity = seven ^ seven >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return seven | (parity & 1) << 7;
}

/* f16 d; for each 32 weights: four points of a byte; four times seven signs and the scale in the top bits. */
static void read_iq2_xxs(const uint8_t *block, rq_ggml_block *out) {
  float d = rq_read_f16(block);
  for (int32_t p = 0; p < 8; p++) {
    const uint8_t *group = block + 2 + 8 * p;
    uint32_t rest = rq_read_u32(group + 4);
    out->scale[p] = d * ((float)(rest >> 28) + 0.5f) * 0.25f;
    for (int32_t i = 0; i < 4; i++)
      put_8(rq_points_iq2_xxs[group[i]], even_signs(rest >> (7 * i) & 127), out->value + 32 * p + 8 * i);
  }
}

/* f16 d; 32 times nine bits of point and seven signs; 16 scales of four bits. */
static void read_iq2_xs(const uint8_t *block, rq_ggml_block *out) {
  float d = rq_read_f16(block);
  for (int32_t p = 0; p < 16; p++)
    out->scale[p] = d * ((float)(block[66 + p / 2] >> (4 * (p % 2)) & 15) + 0.5f) * 0.25f;
  for (int32_t i = 0; i < 32; i++) {
    uint32_t code = rq_read_u16(block + 2 + 2 * i);
    put_8(rq_points_iq2_xs[code & 511], even_signs(code >> 9), out->value + 8 * i);
  }
}

/* f16 d; points (32), low bytes; signs (32); two high bits of each point (8); 16 scales of four bits. */
static void read_iq2_s(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *low = block + 2, *signs = block + 34, *high = block + 66, *scales = block + 74;
  float d = rq_read_f16(block);
  for (int32_t p = 0; p < 16; p++)
    out->scale[p] = d * ((float)(scales[p / 2] >> (4 * (p % 2)) & 15) + 0.5f) * 0.25f;
  for (int32_t i = 0; i < 32; i++) {
    uint32_t code = low[i] | (high[i / 4] >> (2 * (i % 4)) & 3u) << 8;
    put_8(rq_points_iq2_s[code], signs[i], out->value + 8 * i);
  }
}

/* f16 d; points (64) of four weights; for each 32 weights four times seven signs and the scale on top. */
static void read_iq3_xxs(const uint8_t *block, rq_ggml_block *out) {
  float d = rq_read_f16(block);
  for (int32_t p = 0; p < 8; p++) {
    uint32_t rest = rq_read_u32(block + 66 + 4 * p);
    out->scale[p] = d * ((float)(rest >> 28) + 0.5f) * 0.5f;
    for (int32_t i = 0; i < 8; i++) {
      uint32_t signs = even_signs(rest >> (7 * (i / 2)) & 127) >> (4 * (i % 2));
      put_4(rq_points_iq3_xxs[block[2 + 8 * p + i]], values_iq3_xxs, signs, out->value + 32 * p + 4 * i);
    }
  }
}

/* f16 d; points (64), low bytes; their ninth bits (8); signs (32); eight scales of four bits. */
static void read_iq3_s(const uint8_t *block, rq_ggml_block *out) {
  const uint8_t *low = block + 2, *high = block + 66, *signs = block + 74, *scales = block + 106;
  float d = rq_read_f16(block);
  for (int32_t p = 0; p < 8; p++) out->scale[p] = d * (float)(1 + 2 * (scales[p / 2] >> (4 * (p % 2)) & 15));
  for (int32_t i = 0; i < 64; i++) {
    uint32_t code = low[i] | (high[i / 8] >> (i % 8) & 1u) << 8;
    put_4(rq_points_iq3_s[code], values_iq3_s, (uint32_t)signs[i / 2] >> (4 * (i % 2)), out->value + 4 * i);
  }
}

/* Eight times (coordinate -1, 0 or 1) plus or minus an eighth. */
static void put_ternary(uint32_t point, bool negative, int8_t *value /* (8) */) {
  for (int32_t k = 0; k < 8; k++)
    value[k] = (int8_t)(8 * ((int32_t)(point >> (2 * k) & 3) - 1) + (negative ? -1 : 1));
}

/* f16 d; points (32), low bytes; for each 32 weights 16 bits: four times three high bits of a point, the
 * scale, the sign of the eighth. */
static void read_iq1_s(const uint8_t *block, rq_ggml_block *out) {
  float d = rq_read_f16(block);
  for (int32_t p = 0; p < 8; p++) {
    uint32_t high = rq_read_u16(block + 34 + 2 * p);
    out->scale[p] = d * (float)(2 * (high >> 12 & 7) + 1) * 0.125f;
    for (int32_t i = 0; i < 4; i++) {
      uint32_t code = block[2 + 4 * p + i] | (high >> (3 * i) & 7) << 8;
      put_ternary(rq_points_iq1[code], high >> 15, out->value + 32 * p + 8 * i);
    }
  }
}

/* points (32), low bytes; for each point three high bits and the sign of the eighth (16); four times 16 bits:
 * four scales of three bits, and a quarter of the f16 d in the top bits. */
static void read_iq1_m(const uint8_t *block, rq_ggml_block *out) {
  uint32_t bits = 0;
  for (int32_t i = 0; i < 4; i++) bits |= (uint32_t)(rq_read_u16(block + 48 + 2 * i) >> 12) << (4 * i);
  float d = rq_f16_to_f32((uint16_t)bits);
  for (int32_t p = 0; p < 16; p++) {
    uint32_t scale = rq_read_u16(block + 48 + 2 * (p / 4)) >> (3 * (p % 4)) & 7u;
    out->scale[p] = d * (float)(2 * scale + 1) * 0.125f;
  }
  for (int32_t i = 0; i < 32; i++) {
    uint32_t high = (uint32_t)block[32 + i / 2] >> (4 * (i % 2));
    put_ternary(rq_points_iq1[block[i] | (high & 7) << 8], high >> 3 & 1, out->value + 8 * i);
  }
}

const rq_ggml rq_ggml_iq2_xxs = {RQ_BLOCK, 66, 32, false, read_iq2_xxs, {1, -1}};
const rq_ggml rq_ggml_iq2_xs = {RQ_BLOCK, 74, 16, false, read_iq2_xs, {1, -1}};
const rq_ggml rq_ggml_iq2_s = {RQ_BLOCK, 82, 16, false, read_iq2_s, {1, -1}};
const rq_ggml rq_ggml_iq3_xxs = {RQ_BLOCK, 98, 32, false, read_iq3_xxs, {1, -1}};
const rq_ggml rq_ggml_iq3_s = {RQ_BLOCK, 110, 32, false, read_iq3_s, {1, -1}};
const rq_ggml rq_ggml_iq1_s = {RQ_BLOCK, 50, 32, false, read_iq1_s, {1, -1}};
const rq_ggml rq_ggml_iq1_m = {RQ_BLOCK, 56, 16, false, read_iq1_m, {55, -1}};
