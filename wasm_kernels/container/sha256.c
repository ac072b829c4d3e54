/* sha256.c: SHA-256 (FIPS 180-4), a piece at a time. Used to find damage, in files that say what
 * they should be; nothing here is secret, so nothing here is constant-time on purpose. */
#include "../base/base.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

enum { BLOCK = 64 };

static inline uint32_t rotate(uint32_t x, uint32_t by) { return (x >> by) | (x << (32 - by)); }

static inline uint32_t load_big(const uint8_t *at) {
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

static inline void store_big(uint8_t *at, uint32_t x) {
  at[0] = (uint8_t)(x >> 24);
  at[1] = (uint8_t)(x >> 16);
  at[2] = (uint8_t)(x >> 8);
  at[3] = (uint8_t)x;
}

/* Round i + n. Instead of handing eight values on, every call names them in turned order. */
#define ROUND(a, b, c, d, e, f, g, h, n)                                                         \
  h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (g ^ (e & (f ^ g))) + K[i + (n)] + w[n]; \
  d += h;                                                                                        \
  h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) | (c & (a | b)))

#define EIGHT_ROUNDS(n)                   \
  ROUND(a, b, c, d, e, f, g, h, (n));     \
  ROUND(h, a, b, c, d, e, f, g, (n) + 1); \
  ROUND(g, h, a, b, c, d, e, f, (n) + 2); \
  ROUND(f, g, h, a, b, c, d, e, (n) + 3); \
  ROUND(e, f, g, h, a, b, c, d, (n) + 4); \
  ROUND(d, e, f, g, h, a, b, c, (n) + 5); \
  ROUND(c, d, e, f, g, h, a, b, (n) + 6); \
  ROUND(b, c, d, e, f, g, h, a, (n) + 7)

/* What words 1 and 14 on add to the schedule's word 16 rounds on. */
static inline uint32_t mixed(uint32_t early, uint32_t late) {
  return (rotate(early, 7) ^ rotate(early, 18) ^ (early >> 3)) +
         (rotate(late, 17) ^ rotate(late, 19) ^ (late >> 10));
}

/* Word n of the schedule 16 rounds on, which takes its place. */
#define EXTEND(n) w[n] += w[((n) + 9) % 16] + mixed(w[((n) + 1) % 16], w[((n) + 14) % 16])

#define EXTEND_FOUR(n) \
  EXTEND(n);           \
  EXTEND((n) + 1);     \
  EXTEND((n) + 2);     \
  EXTEND((n) + 3)

/* Every index of w is constant, so that its words can stay in registers. */
static void compress(uint32_t state[8], const uint8_t *block /* (64) */) {
  uint32_t w[16];
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  uint32_t i = 0;
#pragma clang loop unroll(full)
  for (uint32_t n = 0; n < 16; n++) w[n] = load_big(block + 4 * n);
  for (;;) {
    EIGHT_ROUNDS(0);
    EIGHT_ROUNDS(8);
    i += 16;
    if (i == 64) break;
    EXTEND_FOUR(0);
    EXTEND_FOUR(4);
    EXTEND_FOUR(8);
    EXTEND_FOUR(12);
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d;
  state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void RQ_EXPORT rq_sha256_init(rq_sha256 *state) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  rq_zero(state, sizeof *state);
  rq_copy(state->state, start, sizeof start);
}

void RQ_EXPORT rq_sha256_update(rq_sha256 *state, const uint8_t *data, const uint8_t *data_end) {
  size_t bytes = (size_t)(data_end - data);
  uint32_t held = state->length_low % BLOCK;
  uint64_t length = ((uint64_t)state->length_high << 32 | state->length_low) + bytes;
  state->length_low = (uint32_t)length;
  state->length_high = (uint32_t)(length >> 32);
  if (held > 0) {
    size_t take = BLOCK - held < bytes ? BLOCK - held : bytes;
    rq_copy(state->block + held, data, take);
    data += take;
    bytes -= take;
    if (held + take < BLOCK) return;
    compress(state->state, state->block);
  }
  for (; bytes >= BLOCK; data += BLOCK, bytes -= BLOCK) compress(state->state, data);
  rq_copy(state->block, data, bytes);
}

void RQ_EXPORT rq_sha256_final(rq_sha256 *state, uint8_t *digest) {
  uint64_t bits = ((uint64_t)state->length_high << 32 | state->length_low) * 8;
  uint32_t held = state->length_low % BLOCK;
  state->block[held++] = 0x80;
  if (held > BLOCK - 8) {
    rq_zero(state->block + held, BLOCK - held);
    compress(state->state, state->block);
    held = 0;
  }
  rq_zero(state->block + held, BLOCK - 8 - held);
  store_big(state->block + 56, (uint32_t)(bits >> 32));
  store_big(state->block + 60, (uint32_t)bits);
  compress(state->state, state->block);
  for (int32_t i = 0; i < 8; i++) store_big(digest + 4 * i, state->state[i]);
}
