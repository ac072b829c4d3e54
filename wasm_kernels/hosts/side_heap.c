/* side_heap.c: the allocator of the side module, which lives in an Emscripten program's heap: that program's
 * malloc, with the alignment that the core wants. Part of no other build. */
#include "../base/base.h"

#if defined(RQ_SIDE_MODULE)

enum { ALIGNMENT = 64 };

/* of the main module */
void *malloc(size_t bytes);
void free(void *memory);

RQ_EXPORT void *rq_alloc(uint32_t bytes) {
  if (bytes > 0xFFFF0000u - ALIGNMENT) return NULL;
  uint8_t *taken = malloc(bytes + ALIGNMENT);
  if (!taken) return NULL;
  /* malloc aligns to 8 at least, so there is room for a pointer before the aligned address */
  uint8_t *memory = (uint8_t *)(((uintptr_t)taken + ALIGNMENT) & ~(uintptr_t)(ALIGNMENT - 1));
  ((uint8_t **)(void *)memory)[-1] = taken;
  return memory;
}

RQ_EXPORT void rq_free(void *memory) {
  if (memory) free(((uint8_t **)memory)[-1]);
}

#else
typedef int rq_no_side_heap; /* a translation unit must not be empty */
#endif
