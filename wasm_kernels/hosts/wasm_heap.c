/* wasm_heap.c: the allocator of the stand-alone WebAssembly module, where the host has none.
 * First fit over a list of blocks in address order, neighbours joined when freed. Objects are few and
 * large (file, index, model), so simple beats clever. Not part of the native library. */
#include "../base/base.h"

#if defined(__wasm__) && !defined(RQ_SIDE_MODULE)

enum { PAGE = 65536, ALIGNMENT = 64 };

extern uint8_t __heap_base; /* set by the linker: the end of static data and stack */

typedef struct heap_block {
  uint32_t bytes; /* of the payload, a multiple of ALIGNMENT */
  uint32_t used;
  struct heap_block *next; /* in address order */
  uint32_t padding[13];
} heap_block;
_Static_assert(sizeof(heap_block) == ALIGNMENT, "payloads must stay aligned");

static heap_block *first_block;
static uint8_t *heap_end;
static uint32_t limit = 0xFFFF0000u; /* of the whole memory, in bytes */

/* Makes the memory reach `end`; false when the host has no more. */
static bool grow_to(uint64_t end) {
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
  if (end <= have) return true;
  uint32_t pages = (uint32_t)((end - have + PAGE - 1) / PAGE);
  if (have + (uint64_t)pages * PAGE > limit) return false;
  return __builtin_wasm_memory_grow(0, pages) != (size_t)-1;
}

static heap_block *append_block(heap_block *last, uint32_t bytes) {
  if (!heap_end)
    heap_end = (uint8_t *)(((uintptr_t)&__heap_base + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
  uint64_t end = (uint64_t)(uintptr_t)heap_end + sizeof(heap_block) + bytes;
  if (!grow_to(end)) return NULL;
  heap_block *block = (heap_block *)(void *)heap_end;
  *block = (heap_block){.bytes = bytes};
  heap_end = (uint8_t *)(uintptr_t)end;
  if (last)
    last->next = block;
  else
    first_block = block;
  return block;
}

/* Leaves `bytes` in the block and makes a free block of the rest where that is worth it. */
static void split_block(heap_block *block, uint32_t bytes) {
  if (block->bytes - bytes < 2 * sizeof(heap_block)) return;
  heap_block *rest = (heap_block *)(void *)((uint8_t *)(block + 1) + bytes);
  *rest = (heap_block){.bytes = block->bytes - bytes - (uint32_t)sizeof(heap_block), .next = block->next};
  block->bytes = bytes;
  block->next = rest;
}

RQ_EXPORT uint32_t rq_limit_memory(uint32_t bytes) {
  limit = bytes < 0xFFFF0000u ? bytes : 0xFFFF0000u;
  return (uint32_t)__builtin_wasm_memory_size(0) * PAGE;
}

RQ_EXPORT void *rq_alloc(uint32_t bytes) {
  if (bytes > 0xFFFF0000u - ALIGNMENT) return NULL;
  bytes = (bytes + ALIGNMENT - 1) & ~(uint32_t)(ALIGNMENT - 1);
  heap_block *last = NULL, *block = first_block;
  for (; block; last = block, block = block->next)
    if (!block->used && block->bytes >= bytes) break;
  if (!block && last && !last->used) { /* the last block is free but too small: lengthen it */
    uint64_t end = (uint64_t)(uintptr_t)(last + 1) + bytes;
    if (!grow_to(end)) return NULL;
    last->bytes = bytes;
    heap_end = (uint8_t *)(uintptr_t)end;
    block = last;
  }
  if (!block) block = append_block(last, bytes);
  if (!block) return NULL;
  split_block(block, bytes);
  block->used = 1;
  return block + 1;
}

RQ_EXPORT void rq_free(void *memory) {
  if (!memory) return;
  heap_block *freed = (heap_block *)memory - 1;
  freed->used = 0;
  for (heap_block *block = first_block; block; block = block->next)
    while (!block->used && block->next && !block->next->used) {
      block->bytes += (uint32_t)sizeof(heap_block) + block->next->bytes;
      block->next = block->next->next;
    }
}

#endif
