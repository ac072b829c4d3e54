/* read_memory.c: how fast one thread reads memory, for the roofline, and arithmetic without any memory.
 * Compiled by token_profile.py for both hosts; not part of the engine. Eight independent sums, so that neither latency nor arithmetic is the limit. */
#include <stdint.h>

typedef uint64_t lanes __attribute__((vector_size(16)));

__attribute__((visibility("default"))) uint32_t
read_memory(const lanes *from, uint32_t count /* of 16 bytes */) {
  lanes sums[8] = {{0}};
  for (uint32_t i = 0; i + 8 <= count; i += 8) {
    for (int k = 0; k < 8; k++) sums[k] += from[i + k];
  }
  lanes all = {0};
  for (int k = 0; k < 8; k++) all += sums[k];
  return (uint32_t)(all[0] + all[1]);
}

/* Eight independent chains in registers: what two cores gain at all (threads.py). Natively only. */
__attribute__((visibility("default"))) uint32_t only_arithmetic(uint32_t rounds) {
  lanes sums[8];
  for (int k = 0; k < 8; k++) sums[k] = (lanes){(uint64_t)k, rounds};
  for (uint32_t i = 0; i < rounds; i++) {
    for (int k = 0; k < 8; k++) sums[k] += (sums[k] ^ i) & 0x5555555555555555u;
  }
  lanes all = {0};
  for (int k = 0; k < 8; k++) all += sums[k];
  return (uint32_t)(all[0] + all[1]);
}
