/* base.c: memory, bounded error texts and the arena, without libc. */
#include "base.h"

#include <stdarg.h>

/* ---- memory ---- */

/* The loops below must not be turned back into calls of themselves. */
#define RQ_NO_LOOP_IDIOM __attribute__((no_builtin("memcpy", "memset", "memmove")))
#if !defined(__clang__)
#undef RQ_NO_LOOP_IDIOM
#define RQ_NO_LOOP_IDIOM __attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif

#if defined(__wasm__)
/* clang emits calls to these; natively the C library has them. */
void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
RQ_NO_LOOP_IDIOM void *memcpy(void *to, const void *from, size_t bytes) {
  uint8_t *t = to;
  const uint8_t *f = from;
  for (size_t i = 0; i < bytes; i++) t[i] = f[i];
  return to;
}
RQ_NO_LOOP_IDIOM void *memmove(void *to, const void *from, size_t bytes) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if (t < f)
    for (size_t i = 0; i < bytes; i++) t[i] = f[i];
  else
    for (size_t i = bytes; i > 0; i--) t[i - 1] = f[i - 1];
  return to;
}
RQ_NO_LOOP_IDIOM void *memset(void *to, int value, size_t bytes) {
  uint8_t *t = to;
  for (size_t i = 0; i < bytes; i++) t[i] = (uint8_t)value;
  return to;
}
#endif

void rq_copy(void *to, const void *from, size_t bytes) { __builtin_memcpy(to, from, bytes); }
void rq_zero(void *to, size_t bytes) { __builtin_memset(to, 0, bytes); }

bool rq_equal(const void *a, const void *b, size_t bytes) {
  const uint8_t *x = a, *y = b;
  for (size_t i = 0; i < bytes; i++)
    if (x[i] != y[i]) return false;
  return true;
}

size_t rq_length(const char *text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}

/* ---- bounded text ---- */

typedef struct text_out {
  char *to;
  int32_t left; /* bytes that still fit before the NUL */
} text_out;

static void put_char(text_out *out, char c) {
  if (out->left <= 0) return;
  *out->to++ = c;
  out->left--;
}

/* Length of the valid UTF-8 sequence at `text`, 0 when there is none. */
static int32_t utf8_length(const uint8_t *text, int32_t bytes) {
  uint8_t c = text[0];
  int32_t n = c < 0x80                ? 1
              : c >= 0xC2 && c < 0xE0 ? 2
              : c >= 0xE0 && c < 0xF0 ? 3
              : c >= 0xF0 && c < 0xF5 ? 4
                                      : 0;
  if (n == 0 || n > bytes) return 0;
  for (int32_t i = 1; i < n; i++)
    if ((text[i] & 0xC0) != 0x80) return 0;
  return n;
}

static void put_text(text_out *out, const char *text, int32_t bytes) {
  const uint8_t *t = (const uint8_t *)text;
  for (int32_t i = 0; i < bytes && out->left > 0;) {
    int32_t n = utf8_length(t + i, bytes - i);
    if (n == 0 || t[i] < 0x20 || t[i] == 0x7F) {
      put_char(out, '?');
      i++;
      continue;
    }
    if (n > out->left) return; /* never half a character */
    for (int32_t j = 0; j < n; j++) put_char(out, (char)t[i + j]);
    i += n;
  }
}

static void put_number(text_out *out, uint64_t value, uint32_t base) {
  char digits[20];
  int32_t n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  while (n > 0) put_char(out, digits[--n]);
}

static void put_signed(text_out *out, int32_t value) {
  if (value < 0) put_char(out, '-');
  put_number(out, value < 0 ? (uint64_t)(-(int64_t)value) : (uint64_t)value, 10);
}

static void format_text(char *to, int32_t size, const char *format, va_list args) {
  text_out out = {to, size - 1};
  for (const char *f = format; *f; f++) {
    if (*f != '%') {
      put_char(&out, *f);
      continue;
    }
    switch (*++f) {
      case 's': {
        const char *text = va_arg(args, const char *);
        put_text(&out, text, (int32_t)rq_length(text));
        break;
      }
      case '.': { /* "%.*s" */
        int32_t bytes = va_arg(args, int);
        put_text(&out, va_arg(args, const char *), bytes);
        f += 2;
        break;
      }
      case 'd': put_signed(&out, va_arg(args, int32_t)); break;
      case 'u': put_number(&out, va_arg(args, uint32_t), 10); break;
      case 'U': put_number(&out, va_arg(args, uint64_t), 10); break;
      case 'x': put_number(&out, va_arg(args, uint32_t), 16); break;
      default: put_char(&out, *f); break;
    }
  }
  *out.to = 0;
}

int32_t rq_fail(rq_error *error, int32_t code, const char *subject_format, ...) {
  if (!error) return code;
  rq_zero(error, sizeof *error);
  error->code = code;
  va_list args;
  va_start(args, subject_format);
  format_text(error->subject, sizeof error->subject, subject_format, args);
  va_end(args);
  return code;
}

#define DEFINE_DETAIL(function, field)                            \
  void function(rq_error *error, const char *format, ...) {       \
    if (!error) return;                                           \
    va_list args;                                                 \
    va_start(args, format);                                       \
    format_text(error->field, sizeof error->field, format, args); \
    va_end(args);                                                 \
  }
DEFINE_DETAIL(rq_expected, expected)
DEFINE_DETAIL(rq_actual, actual)
DEFINE_DETAIL(rq_hint, hint)

/* ---- arena ---- */

rq_arena rq_arena_of(void *begin, void *end) {
  rq_arena arena = {begin, end, 0};
  return arena;
}

void *rq_arena_take(rq_arena *arena, uint64_t bytes) {
  uint64_t start = (arena->used + 63) & ~(uint64_t)63;
  arena->used = start + bytes;
  if (!arena->begin || rq_arena_overflow(arena)) return NULL;
  rq_zero(arena->begin + start, (size_t)bytes);
  return arena->begin + start;
}

bool rq_arena_overflow(const rq_arena *arena) {
  return arena->begin && arena->used > (uint64_t)(arena->end - arena->begin);
}

int32_t RQ_EXPORT rq_abi_version(void) { return RQ_ABI_VERSION; }
