/* encode_ggml_pack.c: scales and codes to the bytes of ggml's blocks; where each bit stands is said at the
 * readers in ggml_32.c, ggml_k.c, ggml_lattice.c and ggml_more.c. */
#include "encode_ggml.h"

enum { ROW = 32, OCTETS = 32 };

static void put_u16(uint8_t *out, uint32_t value) {
  out[0] = (uint8_t)value;
  out[1] = (uint8_t)(value >> 8);
}
static void put_u32(uint8_t *out, uint32_t value) {
  put_u16(out, value);
  put_u16(out + 2, value >> 16);
}

/* Four bits each, weights i in the lower and i + `apart` in the upper half of a byte. */
static void put_nibbles(const uint8_t *code, int32_t apart, uint8_t *out) {
  for (int32_t i = 0; i < apart; i++) out[i] = (uint8_t)((code[i] & 15) | (code[i + apart] & 15) << 4);
}
/* Two bits each, weights 128h + 32j + i in bits 2j of byte i of row h. */
static void put_pairs(const uint8_t *code, uint8_t *out) {
  for (int32_t h = 0; h < 2; h++)
    for (int32_t i = 0; i < ROW; i++) {
      uint32_t bits = 0;
      for (int32_t j = 0; j < 4; j++) bits |= (code[128 * h + 32 * j + i] & 3u) << (2 * j);
      out[ROW * h + i] = (uint8_t)bits;
    }
}
/* One bit each, weight 32g + i in bit g of byte i. */
static void put_bits(const uint8_t *bit, uint8_t *out) {
  for (int32_t i = 0; i < ROW; i++) {
    uint32_t bits = 0;
    for (int32_t g = 0; g < 8; g++) bits |= (bit[ROW * g + i] & 1u) << g;
    out[i] = (uint8_t)bits;
  }
}

/* Codes from 0 on, of values from `low` on, and of those of IQ4. */
static void set_codes(const int8_t *value, int32_t count, int32_t low, uint8_t *code) {
  for (int32_t i = 0; i < count; i++) code[i] = (uint8_t)(value[i] - low);
}
static void set_iq4_codes(const int8_t *value, int32_t count, uint8_t *code) {
  for (int32_t i = 0; i < count; i++)
    for (code[i] = 0; rq_values_iq4[code[i]] < value[i];) code[i]++;
}
/* The upper bits of codes. */
static void set_upper(const uint8_t *code, int32_t shift, uint8_t *upper) {
  for (int32_t i = 0; i < RQ_BLOCK; i++) upper[i] = code[i] >> shift;
}

/* ---- one scale ---- */

void rq_pack_q4_0(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[ROW];
  set_codes(value, ROW, -8, code);
  put_u16(out, scales->d);
  put_nibbles(code, ROW / 2, out + 2);
}

void rq_pack_iq4_nl(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[ROW];
  set_iq4_codes(value, ROW, code);
  put_u16(out, scales->d);
  put_nibbles(code, ROW / 2, out + 2);
}

/* Five digits (or four) as the fraction of 256 that the reader multiplies: 256 / 243 of them, rounded up. */
static uint8_t put_digits(const int8_t *value, int32_t apart, int32_t count) {
  uint32_t digits = 0;
  for (int32_t n = 0; n < 5; n++) digits = 3 * digits + (n < count ? (uint32_t)(value[apart * n] + 1) : 0);
  return (uint8_t)((digits * 256 + 242) / 243);
}

void rq_pack_tq1_0(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  for (int32_t j = 0; j < 32; j++) out[j] = put_digits(value + j, 32, 5);
  for (int32_t j = 0; j < 16; j++) out[32 + j] = put_digits(value + 160 + j, 16, 5);
  for (int32_t j = 0; j < 4; j++) out[48 + j] = put_digits(value + 240 + j, 4, 4);
  put_u16(out + 52, scales->d);
}

void rq_pack_tq2_0(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK];
  set_codes(value, RQ_BLOCK, -1, code);
  put_pairs(code, out);
  put_u16(out + 64, scales->d);
}

/* ---- parts with scales ---- */

void rq_pack_q3_k(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK], high[RQ_BLOCK];
  set_codes(value, RQ_BLOCK, -4, code);
  set_upper(code, 2, high);
  put_bits(high, out);
  put_pairs(code, out + 32);
  uint8_t *packed = out + 96;
  rq_zero(packed, 12);
  for (int32_t p = 0; p < 16; p++) {
    uint32_t s = (uint32_t)(scales->code[p] + 32);
    packed[p % 8] |= (uint8_t)((s & 15) << (4 * (p / 8)));
    packed[8 + p % 4] |= (uint8_t)((s >> 4) << (2 * (p / 4)));
  }
  put_u16(out + 108, scales->d);
}

void rq_pack_q6_k(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK], high[RQ_BLOCK];
  set_codes(value, RQ_BLOCK, -32, code);
  set_upper(code, 4, high);
  for (int32_t h = 0; h < 2; h++) put_nibbles(code + 128 * h, 64, out + 64 * h);
  put_pairs(high, out + 128);
  for (int32_t p = 0; p < 16; p++) out[192 + p] = (uint8_t)scales->code[p];
  put_u16(out + 208, scales->d);
}

void rq_pack_iq4_xs(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK];
  uint32_t high = 0;
  set_iq4_codes(value, RQ_BLOCK, code);
  put_u16(out, scales->d);
  for (int32_t p = 0; p < 8; p++) high |= ((uint32_t)(scales->code[p] + 32) >> 4) << (2 * p);
  put_u16(out + 2, high);
  for (int32_t b = 0; b < 4; b++) {
    uint32_t first = (uint32_t)(scales->code[2 * b] + 32) & 15,
             second = (uint32_t)(scales->code[2 * b + 1] + 32) & 15;
    out[4 + b] = (uint8_t)(first | second << 4);
  }
  for (int32_t p = 0; p < 8; p++) put_nibbles(code + ROW * p, ROW / 2, out + 8 + 16 * p);
}

/* ---- parts with scales and minimums ---- */

void rq_pack_q2_k(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK];
  set_codes(value, RQ_BLOCK, 0, code);
  for (int32_t p = 0; p < 16; p++) out[p] = (uint8_t)(scales->code[p] | scales->minimum[p] << 4);
  put_pairs(code, out + 16);
  put_u16(out + 80, scales->d);
  put_u16(out + 82, scales->dmin);
}

/* d, dmin and twice eight numbers of six bits: 16 bytes. */
static void put_scales_8(const rq_scales *scales, uint8_t *out) {
  const int16_t *s = scales->code;
  const uint8_t *m = scales->minimum;
  put_u16(out, scales->d);
  put_u16(out + 2, scales->dmin);
  for (int32_t j = 0; j < 4; j++) {
    out[4 + j] = (uint8_t)(s[j] | s[4 + j] >> 4 << 6);
    out[8 + j] = (uint8_t)(m[j] | m[4 + j] >> 4 << 6);
    out[12 + j] = (uint8_t)((s[4 + j] & 15) | (m[4 + j] & 15) << 4);
  }
}

void rq_pack_q4_k(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK];
  set_codes(value, RQ_BLOCK, 0, code);
  put_scales_8(scales, out);
  for (int32_t r = 0; r < 4; r++) put_nibbles(code + 64 * r, ROW, out + 16 + ROW * r);
}

void rq_pack_q5_k(const rq_scales *scales, const int8_t *value, uint8_t *out) {
  uint8_t code[RQ_BLOCK], high[RQ_BLOCK];
  set_codes(value, RQ_BLOCK, 0, code);
  set_upper(code, 4, high);
  put_scales_8(scales, out);
  put_bits(high, out + 16);
  for (int32_t r = 0; r < 4; r++) put_nibbles(code + 64 * r, ROW, out + 48 + ROW * r);
}

/* ---- points of a codebook ---- */

/* Seven signs of each of four times eight weights, and the code of the scale on top. */
static uint32_t signs_and_scale(const uint8_t *signs, int32_t scale) {
  uint32_t bits = (uint32_t)scale << 28;
  for (int32_t i = 0; i < 4; i++) bits |= (signs[i] & 127u) << (7 * i);
  return bits;
}

void rq_pack_iq2_xxs(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out) {
  put_u16(out, scales->d);
  for (int32_t p = 0; p < 8; p++) {
    for (int32_t i = 0; i < 4; i++) out[2 + 8 * p + i] = (uint8_t)point[4 * p + i];
    put_u32(out + 2 + 8 * p + 4, signs_and_scale(signs + 4 * p, scales->code[p]));
  }
}

void rq_pack_iq2_xs(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out) {
  put_u16(out, scales->d);
  for (int32_t i = 0; i < OCTETS; i++) put_u16(out + 2 + 2 * i, point[i] | (signs[i] & 127u) << 9);
  for (int32_t i = 0; i < 8; i++) out[66 + i] = (uint8_t)(scales->code[2 * i] | scales->code[2 * i + 1] << 4);
}

void rq_pack_iq3_xxs(const rq_scales *scales, const uint16_t *point, const uint8_t *signs, uint8_t *out) {
  put_u16(out, scales->d);
  for (int32_t i = 0; i < 2 * OCTETS; i++) out[2 + i] = (uint8_t)point[i];
  for (int32_t p = 0; p < 8; p++) put_u32(out + 66 + 4 * p, signs_and_scale(signs + 4 * p, scales->code[p]));
}
