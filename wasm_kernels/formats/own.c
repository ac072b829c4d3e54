/* own.c: ruvq's own formats, the plain scalar reference: codes from planes, weights from codes, products.
 * Every other kernel is held to this file bit for bit. */
#include "blocks.h"

const int8_t rq_trellis_t3[32] = {-11, 26,  -4, 3,  -34, 43, 14, -20, 33, -27, -14, -48, 8,  -4, 63,  20,
                                  -20, -63, 4,  -8, 48,  14, 27, -33, 20, -14, -43, 34,  -3, 4,  -26, 11};
const int8_t rq_trellis_t2[16] = {9, 39, -14, -41, -21, -1, 26, 63, -63, -26, 1, 21, 41, 14, -39, -9};
/* pi * u / k as f32, u the unit of the table. */
const float rq_trellis_c3[4] = {0x1.1046b0p-4f, 0x1.6b08ecp-5f, 0x1.1046b0p-5f, 0x1.b3a44ep-6f};
const float rq_trellis_c2[4] = {0x1.b1d814p-5f, 0x1.213ab8p-5f, 0x1.b1d814p-6f, 0x1.5b1342p-6f};

/* The same times 2^102 and two by two, for half a byte K at once (scales_of in simd_blocks.h). */
#define PAIRS(a, b, c, d)                                                                                   \
  {                                                                                                         \
    {a, a}, {b, a}, {c, a}, {d, a}, {a, b}, {b, b}, {c, b}, {d, b}, {a, c}, {b, c}, {c, c}, {d, c}, {a, d}, \
        {b, d}, {c, d}, {                                                                                   \
      d, d                                                                                                  \
    }                                                                                                       \
  }
const float rq_trellis_c3_pairs[16][2] =
    PAIRS(0x1.1046b0p+98f, 0x1.6b08ecp+97f, 0x1.1046b0p+97f, 0x1.b3a44ep+96f);
const float rq_trellis_c2_pairs[16][2] =
    PAIRS(0x1.b1d814p+97f, 0x1.213ab8p+97f, 0x1.b1d814p+96f, 0x1.5b1342p+96f);

/* Mixed trellises; `python build/mixed_tables.py` makes these numbers. */
const int8_t rq_mixed_x3[2][16] = {{-28, 18, -6, -14, -10, -12, 4, -2, 2, -4, 12, 10, 14, 6, -18, 28},
                                   {22, -26, 2, -16, 11, -35, -8, 3, -3, 8, 35, -11, 16, -2, 26, -22}};
const float rq_mixed_c3[4] = {0x1.4bb9ecp-4f, 0x1.ba4d3ap-5f, 0x1.4bb9ecp-5f, 0x1.09618ap-5f};
const float rq_mixed_c3_pairs[16][2] =
    PAIRS(0x1.4bb9ecp+98f, 0x1.ba4d3ap+97f, 0x1.4bb9ecp+97f, 0x1.09618ap+97f);
const int8_t rq_mixed_x2[2][16] = {{4, -4, 6, -1, 11, -8, 7, -3, 3, -7, 8, -11, 1, -6, 4, -4},
                                   {10, -7, 31, -28, -23, 13, -5, 52, -52, 5, -13, 23, 28, -31, 7, -10}};
const float rq_mixed_c2[4] = {0x1.0b7f30p-4f, 0x1.64a994p-5f, 0x1.0b7f30p-5f, 0x1.abfeb2p-6f};
const float rq_mixed_c2_pairs[16][2] =
    PAIRS(0x1.0b7f30p+98f, 0x1.64a994p+97f, 0x1.0b7f30p+97f, 0x1.abfeb2p+96f);

const rq_own rq_own_pi_q3 = {true, false, 4, NULL, NULL, NULL, NULL};
const rq_own rq_own_pi_q2 = {false, false, 2, NULL, NULL, NULL, NULL};
const rq_own rq_own_pi_t3 = {true, true, 0, rq_trellis_t3, rq_trellis_c3, rq_trellis_c3_pairs, NULL};
const rq_own rq_own_pi_t2 = {false, true, 0, rq_trellis_t2, rq_trellis_c2, rq_trellis_c2_pairs, NULL};
const rq_own rq_own_ternary = {false, false, 1, NULL, NULL, NULL, NULL};
const rq_own rq_own_pi_x3 = {true, true, 0, NULL, rq_mixed_c3, rq_mixed_c3_pairs, rq_mixed_x3};
const rq_own rq_own_pi_x2 = {false, true, 0, NULL, rq_mixed_c2, rq_mixed_c2_pairs, rq_mixed_x2};

const rq_own *rq_own_of(int32_t format) {
  switch (format) {
    case RQ_FORMAT_PI_Q3: return &rq_own_pi_q3;
    case RQ_FORMAT_PI_Q2: return &rq_own_pi_q2;
    case RQ_FORMAT_PI_T3: return &rq_own_pi_t3;
    case RQ_FORMAT_PI_T2: return &rq_own_pi_t2;
    case RQ_FORMAT_TERNARY:
    case RQ_FORMAT_PI_TERNARY: return &rq_own_ternary;
    case RQ_FORMAT_PI_X3: return &rq_own_pi_x3;
    case RQ_FORMAT_PI_X2: return &rq_own_pi_x2;
    default: return NULL;
  }
}

void rq_trellis_scales(const float *c, const uint8_t *header, float *d) {
  float alpha = rq_alpha_of_byte(header[0]); /* 0 gives +0 */
  for (int32_t f = 0; f < RQ_GROUPS; f++) d[f] = alpha * c[header[1] >> (2 * f) & 3];
}

void rq_own_scales(const rq_own *own, const uint8_t *header, float *d) {
  if (own->trellis) {
    rq_trellis_scales(own->c, header, d);
    return;
  }
  for (int32_t f = 0; f < RQ_GROUPS; f++) d[f] = rq_f16_to_f32(rq_read_u16(header));
}

/* The bit of lane l at step j of a 1-bit plane. */
static uint32_t plane1_bit(const uint8_t *plane, int32_t steps, int32_t l, int32_t j) {
  int32_t group = j / 8, in_group = j % 8;
  if (group == steps / 8 && steps % 8 <= 4) { /* half a group: two lanes share a byte */
    uint32_t byte = plane[16 * group + l % 8];
    return (l < 8 ? byte : byte >> 4) >> in_group & 1;
  }
  return (uint32_t)plane[16 * group + l] >> in_group & 1;
}

void rq_own_codes(const rq_own *own, const uint8_t *block, int32_t r, uint8_t *codes) {
  int32_t steps = rq_block_steps(r);
  const uint8_t *plane1 = block + rq_plane2_bytes(steps);
  for (int32_t i = 0; i < r; i++) {
    int32_t l = i / steps, j = i % steps;
    uint32_t code = (uint32_t)block[16 * (j / 4) + l] >> (2 * (j % 4)) & 3;
    if (own->three_bits) code = code << 1 | plane1_bit(plane1, steps, l, j);
    codes[i] = (uint8_t)code;
  }
}

void rq_own_before(const rq_own *own, const uint8_t *block, int32_t steps, rq_mixed_before *before) {
  uint8_t codes[RQ_BLOCK];
  int32_t shift = own->three_bits ? 1 : 0;
  rq_own_codes(own, block, RQ_LANES * steps, codes);
  for (int32_t l = 0; l < RQ_LANES; l++) {
    int32_t high[3] = {0, 0, 0}, low = 0;
    for (int32_t n = 0; n < 4 && n < l * steps; n++) {
      int32_t code = codes[l * steps - 1 - n];
      if (n < 3) high[n] = code >> shift;
      low |= (code & 1) << n;
    }
    before->last[l] = (uint8_t)(high[0] << 2 | high[1]);
    before->older[l] = (uint8_t)(high[1] << 2 | high[2]);
    before->low[l] = (uint8_t)low;
  }
}

static void mixed_values(const rq_own *own, const uint8_t *codes, int32_t r, int8_t *values) {
  uint32_t c[4] = {0, 0, 0, 0};
  for (int32_t i = 0; i < r; i++) {
    c[3] = c[2], c[2] = c[1], c[1] = c[0], c[0] = codes[i];
    values[i] = (int8_t)rq_mixed_value(own, c);
  }
}

void rq_own_values(const rq_own *own, const uint8_t *block, int32_t r, int8_t *values) {
  uint8_t codes[RQ_BLOCK];
  rq_own_codes(own, block, r, codes);
  if (own->mixed) {
    mixed_values(own, codes, r, values);
    return;
  }
  uint32_t before = 0;
  for (int32_t i = 0; i < r; i++) {
    uint32_t c = codes[i];
    if (!own->trellis)
      values[i] = (int8_t)((int32_t)c - own->offset);
    else
      values[i] = own->table[c << 2 | (own->three_bits ? before >> 1 : before)];
    before = c;
  }
}

void rq_own_decode_scalar(const rq_own *own, const uint8_t *row, int32_t width, float *out) {
  for (int32_t start = 0; start < width; start += RQ_BLOCK) {
    int32_t r = rq_min_i32(RQ_BLOCK, width - start), steps = rq_block_steps(r);
    int32_t bytes = rq_own_block_bytes(own, r);
    const uint8_t *header = row + bytes - 2;
    int8_t values[RQ_BLOCK];
    float d[RQ_GROUPS];
    rq_own_values(own, row, r, values);
    rq_own_scales(own, header, d);
    bool zero = own->trellis && header[0] == 0; /* +0, whatever the sign in the table */
    for (int32_t i = 0; i < r; i++)
      out[start + i] = zero ? 0.0f : (float)values[i] * d[i / steps / RQ_GROUP_LANES];
    row += bytes;
  }
}

float rq_own_dot_scalar(const rq_own *own, const uint8_t *row, const rq_activations *a) {
  float acc[RQ_GROUPS] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int32_t start = 0; start < a->width; start += RQ_BLOCK) {
    int32_t r = rq_min_i32(RQ_BLOCK, a->width - start), steps = rq_block_steps(r);
    int32_t bytes = rq_own_block_bytes(own, r);
    int8_t values[RQ_BLOCK];
    float d[RQ_GROUPS], dx = a->scale[start / RQ_BLOCK];
    rq_own_values(own, row, r, values);
    rq_own_scales(own, row + bytes - 2, d);
    int32_t sums[RQ_GROUPS] = {0, 0, 0, 0};
    for (int32_t i = 0; i < r; i++) sums[i / steps / RQ_GROUP_LANES] += values[i] * a->q[start + i];
    for (int32_t f = 0; f < RQ_GROUPS; f++) {
      float t = d[f] * dx;
      acc[f] = acc[f] + (float)sums[f] * t;
    }
    row += bytes;
  }
  return rq_sum4(acc);
}

/* ---- validation ---- */

/* Bits that no weight owns are zero: places from r on, and steps from s on in the last bytes. */
static bool tail_padding_is_zero(const rq_own *own, const uint8_t *block, int32_t r) {
  int32_t steps = rq_block_steps(r);
  uint32_t stray = 0;
  for (int32_t l = 0; l < RQ_LANES; l++) {
    int32_t used = rq_max_i32(0, rq_min_i32(steps, r - l * steps)); /* steps of this lane that are weights */
    for (int32_t j = used; j < 4 * ((steps + 3) / 4); j++)
      stray |= (uint32_t)block[16 * (j / 4) + l] >> (2 * (j % 4)) & 3;
    if (!own->three_bits) continue;
    int32_t left = steps % 8, held = steps - left + (left == 0 ? 0 : left <= 4 ? 4 : 8);
    for (int32_t j = used; j < held; j++) stray |= plane1_bit(block + rq_plane2_bytes(steps), steps, l, j);
  }
  return stray == 0;
}

/* Whether some 2-bit code is 3: both its bits set. */
static bool holds_code_3(const uint8_t *plane, int32_t bytes) {
  uint32_t both = 0;
  for (int32_t i = 0; i < bytes; i++) both |= (uint32_t)plane[i] & (uint32_t)plane[i] >> 1 & 0x55;
  return both != 0;
}

static int32_t check_header(rq_error *error, const rq_own *own, const uint8_t *header, int32_t block) {
  if (own->trellis) {
    if (header[0] <= RQ_ALPHA_BYTE_MAX) return RQ_OK;
    rq_fail(error, RQ_E_DATA, "block %d", block);
    rq_expected(error, "an alpha byte of at most %d", (int32_t)RQ_ALPHA_BYTE_MAX);
    rq_actual(error, "%d", (int32_t)header[0]);
    return RQ_E_DATA;
  }
  uint32_t scale = rq_read_u16(header);
  bool finite = (scale & 0x7C00) != 0x7C00, ternary = own->offset == 1;
  if (finite && !(ternary && scale & 0x8000)) return RQ_OK;
  rq_fail(error, RQ_E_DATA, "block %d", block);
  rq_expected(error, ternary ? "a finite f16 scale without a sign" : "a finite f16 scale");
  rq_actual(error, "f16 bits 0x%x", scale);
  return RQ_E_DATA;
}

int32_t rq_own_check(rq_error *error, const rq_own *own, const uint8_t *row, int32_t width) {
  for (int32_t start = 0, block = 0; start < width; start += RQ_BLOCK, block++) {
    int32_t r = rq_min_i32(RQ_BLOCK, width - start), bytes = rq_own_block_bytes(own, r);
    int32_t code = check_header(error, own, row + bytes - 2, block);
    if (code < 0) return code;
    if (own->offset == 1 && holds_code_3(row, rq_plane2_bytes(rq_block_steps(r)))) {
      rq_fail(error, RQ_E_DATA, "block %d", block);
      rq_expected(error, "ternary codes 0, 1 and 2");
      rq_actual(error, "code 3");
      return RQ_E_DATA;
    }
    if (r < RQ_BLOCK && !tail_padding_is_zero(own, row, r)) {
      rq_fail(error, RQ_E_DATA, "block %d", block);
      rq_expected(error, "zero bits beyond the %d weights of the tail", r);
      rq_actual(error, "bits that are set there");
      return RQ_E_DATA;
    }
    row += bytes;
  }
  return RQ_OK;
}
