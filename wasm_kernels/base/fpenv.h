/* fpenv.h: the floating-point environment every entry point computes in: round to nearest, denormals
 * kept. A host library may have set flush-to-zero for speed, which would change the tokens.
 *
 * Use in exported functions, around a call that the compiler can't inline (it may otherwise move
 * arithmetic across the switch):
 *   uint32_t saved = rq_fp_enter();
 *   int32_t result = the_work(...);   // RQ_NOINLINE
 *   rq_fp_leave(saved);
 * WebAssembly has one environment only, and there nothing is done. */
#ifndef RQ_FPENV_H
#define RQ_FPENV_H
#include <stdint.h>

#define RQ_NOINLINE __attribute__((noinline))

#if defined(__SSE__)
enum { RQ_MXCSR_DEFAULT = 0x1F80 }; /* exceptions masked, nearest even, no FTZ, no DAZ */
static inline uint32_t rq_fp_enter(void) {
  uint32_t saved = __builtin_ia32_stmxcsr();
  if ((saved & ~0x3Fu) != RQ_MXCSR_DEFAULT) __builtin_ia32_ldmxcsr(RQ_MXCSR_DEFAULT);
  return saved;
}
static inline void rq_fp_leave(uint32_t saved) {
  if ((saved & ~0x3Fu) != RQ_MXCSR_DEFAULT) __builtin_ia32_ldmxcsr(saved);
}
#elif defined(__aarch64__)
static inline uint32_t rq_fp_enter(void) {
  uint64_t saved;
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
  if (saved != 0) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0) : "memory");
  return (uint32_t)saved;
}
static inline void rq_fp_leave(uint32_t saved) {
  if (saved != 0) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)saved) : "memory");
}
#else
static inline uint32_t rq_fp_enter(void) { return 0; }
static inline void rq_fp_leave(uint32_t saved) { (void)saved; }
#endif

#endif
