/* hash.c: a 32-bit hash over the bits of activations (the word mixing of MurmurHash3), so that two
 * hosts can find the first layer where they differ. Not for security. */
#include "model.h"

uint32_t rq_hash_floats(uint32_t hash, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint32_t word;
    __builtin_memcpy(&word, x + i, sizeof word);
    word *= 0xCC9E2D51u;
    word = (word << 15) | (word >> 17);
    word *= 0x1B873593u;
    hash ^= word;
    hash = (hash << 13) | (hash >> 19);
    hash = hash * 5u + 0xE6546B64u;
  }
  return hash;
}
