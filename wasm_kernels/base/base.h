/* base.h: what freestanding code needs everywhere: memory, bounded formatting of errors, an arena.
 * No libc is linked; clang may still emit calls to memcpy and memset, which base.c defines. */
#ifndef RQ_BASE_H
#define RQ_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/ruvq.h"

#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "ruvq needs FLT_EVAL_METHOD == 0: results must not depend on excess precision"
#endif

#define RQ_EXPORT __attribute__((visibility("default")))
#define RQ_COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

void rq_copy(void *to, const void *from, size_t bytes);
void rq_zero(void *to, size_t bytes);
bool rq_equal(const void *a, const void *b, size_t bytes);
size_t rq_length(const char *text);

static inline int32_t rq_min_i32(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t rq_max_i32(int32_t a, int32_t b) { return a > b ? a : b; }
static inline float rq_min_f32(float a, float b) { return a < b ? a : b; }
static inline float rq_max_f32(float a, float b) { return a > b ? a : b; }

/* ---- errors ----
 * rq_fail starts an error and returns its code; the rq_fail_* calls then fill in the details.
 * `error` may be NULL. Formats know %s (NUL-terminated), %.*s (int length, text), %d (int32_t),
 * %u (uint32_t), %U (uint64_t), %x (uint32_t, hexadecimal) and %%. Bytes that are no printable
 * ASCII come out as '?' unless they are valid UTF-8. */
int32_t rq_fail(rq_error *error, int32_t code, const char *subject_format, ...);
void rq_expected(rq_error *error, const char *format, ...);
void rq_actual(rq_error *error, const char *format, ...);
void rq_hint(rq_error *error, const char *format, ...);

/* ---- arena: consecutive pieces of the memory that the host gave ----
 * With begin == NULL it only counts, so that one function both measures and lays out. */
typedef struct rq_arena {
  uint8_t *begin, *end;
  uint64_t used;
} rq_arena;
rq_arena rq_arena_of(void *begin, void *end);
/* 64-byte aligned, zeroed when `begin` is there; NULL when counting or when it doesn't fit (then
 * `used` still grows, and rq_arena_overflow says so). */
void *rq_arena_take(rq_arena *arena, uint64_t bytes);
bool rq_arena_overflow(const rq_arena *arena);

#endif
