/* read_memory.c: how fast one thread reads memory, for the roofline. Compiled by roofline.py for both hosts;
 * not part of the engine. Eight independent sums, so that neither latency nor arithmetic is the limit. */
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
