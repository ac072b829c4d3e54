/* wasm_threads.c: how a thread of the WebAssembly module sleeps: on a word of the shared memory. The module
 * without shared memory has one thread. Not part of the native library. */
#include "../threads/pool.h"

#if defined(__wasm__)
#if defined(__wasm_atomics__)

/* A look takes one to two nanoseconds and there is no clock: some 100 microseconds, longer than what lies
 * between two jobs of a step, and longer than drawing a token. */
enum { LOOKS = 100000 };

bool rq_pool_look_again(rq_wait *wait) { return ++wait->looks < LOOKS; }

bool rq_pool_possible(void) { return true; }

void rq_pool_sleep(rq_pool *pool, _Atomic uint32_t *word, uint32_t value) {
  (void)pool;
  __builtin_wasm_memory_atomic_wait32((int *)(void *)word, (int)value, -1);
}

void rq_pool_wake(rq_pool *pool, _Atomic uint32_t *word) {
  (void)pool;
  __builtin_wasm_memory_atomic_notify((int *)(void *)word, 0xFFFFFFFFu);
}

#else

bool rq_pool_possible(void) { return false; }
bool rq_pool_look_again(rq_wait *wait) {
  (void)wait;
  return true;
}
void rq_pool_sleep(rq_pool *pool, _Atomic uint32_t *word, uint32_t value) {
  (void)pool, (void)word, (void)value;
}
void rq_pool_wake(rq_pool *pool, _Atomic uint32_t *word) { (void)pool, (void)word; }

#endif
#else
typedef int rq_no_wasm_threads; /* a translation unit must not be empty */
#endif
