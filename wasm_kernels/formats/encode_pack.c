/* encode_pack.c: codes in the order of the weights to the bytes of a block (docs/formats.md). */
#include "encode.h"

/* Four 2-bit codes, one a byte, to one byte, the first in the lowest bits: each product moves one code
 * to its place in the top byte, and no two of them overlap. */
static uint8_t gather4(const uint8_t *codes) {
  uint32_t v =
      (uint32_t)codes[0] | (uint32_t)codes[1] << 8 | (uint32_t)codes[2] << 16 | (uint32_t)codes[3] << 24;
  return (uint8_t)(v * 0x01041040u >> 24);
}

/* The lowest bits of eight bytes to one byte, the first lowest. */
static uint8_t gather8(const uint8_t *bits) {
  uint64_t v = 0;
  for (int32_t i = 0; i < 8; i++) v |= (uint64_t)bits[i] << (8 * i);
  return (uint8_t)(v * 0x0102040810204080u >> 56);
}

/* (16 lanes, room for 16 steps), zero beyond the weights. */
typedef struct code_lanes {
  uint8_t high[RQ_LANES][RQ_LANES]; /* for the 2-bit plane */
  uint8_t low[RQ_LANES][RQ_LANES];  /* for the 1-bit plane */
} code_lanes;

static void to_lanes(const rq_own *own, const uint8_t *codes, int32_t r, int32_t steps, code_lanes *lanes) {
  int32_t shift = own->three_bits ? 1 : 0;
  if (r == RQ_BLOCK) { /* lanes are as long as there is room: one after the other */
    for (int32_t i = 0; i < RQ_BLOCK; i++) lanes->high[i / RQ_LANES][i % RQ_LANES] = codes[i] >> shift;
    for (int32_t i = 0; i < RQ_BLOCK; i++) lanes->low[i / RQ_LANES][i % RQ_LANES] = codes[i] & 1;
    return;
  }
  rq_zero(lanes, sizeof *lanes);
  for (int32_t i = 0; i < r; i++) {
    lanes->high[i / steps][i % steps] = codes[i] >> shift;
    lanes->low[i / steps][i % steps] = codes[i] & 1;
  }
}

static void pack_plane1(const code_lanes *lanes, int32_t steps, uint8_t *out) {
  int32_t full = steps / 8, left = steps % 8;
  for (int32_t h = 0; h < full; h++)
    for (int32_t l = 0; l < RQ_LANES; l++) out[16 * h + l] = gather8(&lanes->low[l][8 * h]);
  out += 16 * full;
  if (left == 0) return;
  for (int32_t b = 0; b < 8; b++) {
    uint8_t first = gather8(&lanes->low[b][8 * full]), second = gather8(&lanes->low[b + 8][8 * full]);
    out[b] = left <= 4 ? (uint8_t)(first | second << 4) : first;
    if (left > 4) out[b + 8] = second;
  }
}

int32_t rq_pack_own(const rq_own *own, const uint8_t *codes, int32_t r, const uint8_t *header, uint8_t *out) {
  int32_t steps = rq_block_steps(r), bytes = rq_own_block_bytes(own, r);
  code_lanes lanes;
  to_lanes(own, codes, r, steps, &lanes);
  for (int32_t g = 0; g < (steps + 3) / 4; g++)
    for (int32_t l = 0; l < RQ_LANES; l++) out[16 * g + l] = gather4(&lanes.high[l][4 * g]);
  if (own->three_bits) pack_plane1(&lanes, steps, out + rq_plane2_bytes(steps));
  out[bytes - 2] = header[0];
  out[bytes - 1] = header[1];
  return bytes;
}

void rq_pack_q3_ruvllm(const uint8_t *codes, uint8_t *out) {
  for (int32_t g = 0; g < RQ_BLOCK / 8; g++) {
    uint32_t bits = 0;
    for (int32_t i = 0; i < 8; i++) bits |= (uint32_t)codes[8 * g + i] << (3 * i);
    for (int32_t b = 0; b < 3; b++) out[3 * g + b] = (uint8_t)(bits >> (8 * b));
  }
}

void rq_pack_q2_ruvllm(const uint8_t *codes, uint8_t *out) {
  for (int32_t g = 0; g < RQ_BLOCK / 4; g++) out[g] = gather4(codes + 4 * g);
}
