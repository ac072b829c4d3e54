/* blocks.h: the bytes of ruvq's own blocks and of the few foreign ones (docs/formats.md), and what every
 * reader and writer of them needs: sizes of planes, tables of the trellis, scales from headers. */
#ifndef RQ_BLOCKS_H
#define RQ_BLOCKS_H
#include "../base/math.h"
#include "formats.h"

/* Full blocks of 256 weights; a tail has shorter planes, then the same header of two bytes. */
typedef struct rq_block_3bit { /* pi-q3, pi-t3, pi-x3 */
  uint8_t plane2[64];          /* (4 groups of four steps, 16 lanes): code >> 1 */
  uint8_t plane1[32];          /* (2 groups of eight steps, 16 lanes): code & 1 */
  uint8_t header[2];
} rq_block_3bit;
typedef struct rq_block_2bit { /* pi-q2, pi-t2, pi-x2, ternary, pi-ternary */
  uint8_t plane2[64];
  uint8_t header[2];
} rq_block_2bit;
_Static_assert(sizeof(rq_block_3bit) == 98, "3-bit blocks are 98 bytes");
_Static_assert(sizeof(rq_block_2bit) == 66, "2-bit blocks are 66 bytes");

enum { RQ_Q8_0_WEIGHTS = 32 };
typedef struct rq_block_q8_0 {
  uint8_t d[2]; /* f16 */
  int8_t q[RQ_Q8_0_WEIGHTS];
} rq_block_q8_0;
_Static_assert(sizeof(rq_block_q8_0) == 34, "Q8_0 blocks are 34 bytes");

/* Type ids 40 and 41 in the namespace "ruvllm". */
typedef struct rq_block_q3_ruvllm {
  uint8_t codes[96]; /* eight codes in three bytes, the first in the lowest bits */
  uint8_t d[2];      /* f16 */
} rq_block_q3_ruvllm;
typedef struct rq_block_q2_ruvllm {
  uint8_t codes[64]; /* four codes in a byte, the first in the lowest bits */
  uint8_t d[2];
} rq_block_q2_ruvllm;
_Static_assert(sizeof(rq_block_q3_ruvllm) == 98, "ruvllm's 3-bit blocks are 98 bytes");
_Static_assert(sizeof(rq_block_q2_ruvllm) == 66, "ruvllm's 2-bit blocks are 66 bytes");

/* ---- geometry of a block of r weights, 1 <= r <= 256 ---- */

static inline int32_t rq_block_steps(int32_t r) { return (r + RQ_LANES - 1) / RQ_LANES; }
static inline int32_t rq_plane2_bytes(int32_t steps) { return 16 * ((steps + 3) / 4); }
static inline int32_t rq_plane1_bytes(int32_t steps) {
  int32_t left = steps % 8;
  return 16 * (steps / 8) + (left == 0 ? 0 : left <= 4 ? 8 : 16);
}

/* ---- the own formats ---- */

/* Sums of a block's activations: of each 32, then of each 16. */
enum { RQ_PART_SUMS_16 = 8, RQ_PART_SUMS = 24 };

enum { RQ_ALPHA_BYTE_MAX = 247, RQ_GROUPS = 4, RQ_GROUP_LANES = 4 };

/* What tells them apart. */
typedef struct rq_own {
  bool three_bits; /* else two */
  bool trellis;    /* else f32(code - offset) * d */
  int32_t offset;
  const int8_t *table;       /* trellis of two codes: (32) T3 or (16) T2 */
  const float *c;            /* trellis: (4) C[k], k = 2..5 */
  const float (*c_pairs)[2]; /* trellis: (16) the two C of half a byte K, times 2^102 */
  const int8_t (*mixed)[16]; /* trellis of four codes: the tables A and B, whose entries add up; else NULL */
} rq_own;
extern const rq_own rq_own_pi_q3, rq_own_pi_q2, rq_own_pi_t3, rq_own_pi_t2, rq_own_ternary, rq_own_pi_x3,
    rq_own_pi_x2;
/* NULL for a format that isn't one of ruvq's own. */
const rq_own *rq_own_of(int32_t format);

/* Bytes of a block of r weights: planes and header. */
static inline int32_t rq_own_block_bytes(const rq_own *own, int32_t r) {
  int32_t steps = rq_block_steps(r);
  return rq_plane2_bytes(steps) + (own->three_bits ? rq_plane1_bytes(steps) : 0) + 2;
}

extern const int8_t rq_trellis_t3[32], rq_trellis_t2[16];
extern const float rq_trellis_c3[4], rq_trellis_c2[4];
extern const float rq_trellis_c3_pairs[16][2], rq_trellis_c2_pairs[16][2];
extern const int8_t rq_mixed_x3[2][16], rq_mixed_x2[2][16];
extern const float rq_mixed_c3[4], rq_mixed_c2[4];
extern const float rq_mixed_c3_pairs[16][2], rq_mixed_c2_pairs[16][2];

/* T of a mixed trellis: of a code and the three before it, the newest first. */
static inline int32_t rq_mixed_value(const rq_own *own, const uint32_t *c /* (4) */) {
  if (!own->three_bits)
    return own->mixed[0][c[0] << 2 | c[1]] + own->mixed[1][(c[1] ^ c[2]) << 2 | (c[0] ^ c[3])];
  uint32_t low = (c[3] & 1) << 3 | (c[2] & 1) << 2 | (c[1] & 1) << 1 | (c[0] & 1);
  return own->mixed[0][c[0] >> 1 << 2 | c[1] >> 1] + own->mixed[1][low ^ (c[1] >> 1 << 2 | c[2] >> 1)];
}

/* alpha = f32(f16 with the bits a << 7) * 2^-10, exactly, for a up to 247. */
static inline float rq_alpha_of_byte(uint8_t a) {
  if (a < 8) return (float)a * 0x1p-27f; /* zero and the subnormal numbers */
  uint32_t bits = ((uint32_t)a << 20) + ((uint32_t)(112 - 10) << 23);
  float alpha;
  __builtin_memcpy(&alpha, &bits, sizeof alpha);
  return alpha;
}
/* D of the four groups of lanes: alpha * C[k_f] rounded to f32; all +0 where a = 0. */
void rq_trellis_scales(const float *c /* (4) */, const uint8_t *header /* a, K */, float *d /* (4) */);

/* Numbers at any address; all targets are little-endian, as the files are. */
static inline uint16_t rq_read_u16(const uint8_t *bytes) {
  uint16_t value;
  __builtin_memcpy(&value, bytes, sizeof value);
  return value;
}
static inline uint32_t rq_read_u32(const uint8_t *bytes) {
  uint32_t value;
  __builtin_memcpy(&value, bytes, sizeof value);
  return value;
}

/* Codes of a block of r weights, in the order of the weights: the plain reading of the planes. */
void rq_own_codes(const rq_own *own, const uint8_t *block, int32_t r, uint8_t *codes /* (r) */);
/* What stands before the first step of each lane of a block of a mixed trellis: the indices into A of the
 * step before and of that before it, and the lowest bits of four steps, the latest in bit 0. */
typedef struct rq_mixed_before {
  uint8_t last[RQ_LANES], older[RQ_LANES], low[RQ_LANES];
} rq_mixed_before;
void rq_own_before(const rq_own *own, const uint8_t *block, int32_t steps, rq_mixed_before *before);
/* Integer values: T of the trellis, or code - offset. */
void rq_own_values(const rq_own *own, const uint8_t *block, int32_t r, int8_t *values /* (r) */);
/* D of the four groups of lanes. */
void rq_own_scales(const rq_own *own, const uint8_t *header, float *d /* (4) */);

/* ---- scalar and SIMD sides of the registry ---- */

void rq_own_decode_scalar(const rq_own *own, const uint8_t *row, int32_t width, float *out);
float rq_own_dot_scalar(const rq_own *own, const uint8_t *row, const rq_activations *a);
int32_t rq_own_check(rq_error *error, const rq_own *own, const uint8_t *row, int32_t width);

/* (acc_0 + acc_1) + (acc_2 + acc_3): the end of every product with int8 activations. */
static inline float rq_sum4(const float *acc) { return (acc[0] + acc[1]) + (acc[2] + acc[3]); }

#endif
