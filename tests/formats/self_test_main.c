/* self_test_main.c: rq_self_test as a program without a C library, for processors that only an emulator has.
 * Ends with 0 when every kernel of the build gives the right bits, 1 when one doesn't, 2 when there is no
 * SIMD in it. */
#include "../../wasm_kernels/include/ruvq.h"

static _Noreturn void leave(long code) {
  register long status __asm__("x0") = code;
  register long call __asm__("x8") = 93; /* exit */
  for (;;) __asm__ volatile("svc 0" ::"r"(status), "r"(call) : "memory");
}

/* What the compiler calls by itself. */
__attribute__((no_builtin)) void *memcpy(void *to, const void *from, unsigned long bytes) {
  for (unsigned long i = 0; i < bytes; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}
__attribute__((no_builtin)) void *memset(void *to, int value, unsigned long bytes) {
  for (unsigned long i = 0; i < bytes; i++) ((char *)to)[i] = (char)value;
  return to;
}

_Noreturn void _start(void) {
  rq_error error;
  if (rq_variant(RQ_SIMD) != RQ_SIMD128) leave(2);
  leave(rq_self_test(&error) < 0);
}
