/* build_file.h: a GGUF file made from a fuzzer's bytes, so that mutations reach the tokenizer and the model
 * and don't all end in the parser. Bytes are taken from the front of the input; past its end they are 0. */
#ifndef RUVQ_FUZZ_BUILD_FILE_H
#define RUVQ_FUZZ_BUILD_FILE_H

#include <stdlib.h>
#include <string.h>

#include "../../wasm_kernels/container/container.h"

/* Coverage is counted in the core alone: what is built here is no finding, and counting it takes half the
 * time. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

enum { MOST_MEMORY = 4 << 20 }; /* what a file may ask for and still be tried */

/* ---- the fuzzer's bytes ---- */

typedef struct source {
  const uint8_t *at, *end;
} source;

static inline uint8_t take(source *s) { return s->at < s->end ? *s->at++ : 0; }

static inline uint64_t take_number(source *s) {
  uint64_t value = 0;
  for (int i = 0; i < 8; i++) value |= (uint64_t)take(s) << (8 * i);
  return value;
}

/* ---- the file ---- */

typedef struct file {
  uint8_t *data;
  size_t used, room;
  uint64_t keys, tensors;
} file;

static inline void put(file *f, const void *bytes, size_t count) {
  if (f->used + count > f->room) {
    f->room = 2 * (f->used + count);
    f->data = realloc(f->data, f->room);
  }
  if (count) memcpy(f->data + f->used, bytes, count);
  f->used += count;
}

static inline void put_number(file *f, uint64_t value, size_t bytes) { put(f, &value, bytes); }

static inline void put_text(file *f, const char *text, size_t bytes) {
  put_number(f, bytes, 8);
  put(f, text, bytes);
}

static inline void put_key(file *f, const char *key, uint32_t type) {
  put_text(f, key, strlen(key));
  put_number(f, type, 4);
  f->keys++;
}

static inline void put_string(file *f, const char *key, const char *value) {
  put_key(f, key, RQ_KV_STRING);
  put_text(f, value, strlen(value));
}

static inline void put_array(file *f, const char *key, uint32_t element, uint64_t count) {
  put_key(f, key, RQ_KV_ARRAY);
  put_number(f, element, 4);
  put_number(f, count, 8);
}

/* A number with its key; strings and arrays become short ones. */
static inline void put_value(file *f, const char *key, uint32_t type, uint64_t value) {
  static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  if (type == RQ_KV_STRING) {
    put_string(f, key, value & 1 ? "linear" : "7");
  } else if (type == RQ_KV_ARRAY) {
    put_array(f, key, RQ_KV_U32, 2);
    put_number(f, value, 8);
  } else {
    put_key(f, key, type);
    put_number(f, type == RQ_KV_BOOL ? value & 1 : value, sizes[type]);
  }
}

static inline void put_tensor(file *f, const char *name, uint64_t inner, uint64_t outer, int32_t type,
                              uint64_t offset) {
  put_text(f, name, strlen(name));
  put_number(f, 2, 4);
  put_number(f, inner, 8);
  put_number(f, outer, 8);
  put_number(f, (uint32_t)type, 4);
  put_number(f, offset, 8);
  f->tensors++;
}

/* Room for the header, whose counts `finish` fills in. */
static inline file begin(void) {
  file f = {NULL, 0, 0, 0, 0};
  put(&f, "GGUF\3\0\0", 8);
  put_number(&f, 0, 8);
  put_number(&f, 0, 8);
  return f;
}

static inline void pad(file *f) {
  while (f->used % 32) put_number(f, 0, 1);
}

/* The file in memory that ends where it ends, so that a sanitizer sees the first byte read outside. */
static inline void finish(file *f) {
  memcpy(f->data + 8, &f->tensors, 8);
  memcpy(f->data + 16, &f->keys, 8);
  f->data = realloc(f->data, f->used);
}

/* Its index, or NULL where the parser refuses the file. */
static inline rq_gguf *parse(const file *f) {
  rq_error error;
  uint64_t bytes;
  const uint8_t *end = f->data + f->used;
  if (rq_gguf_index_bytes(&error, f->data, end, end, &bytes) != RQ_OK) return NULL;
  uint8_t *index = malloc(bytes);
  if (rq_gguf_parse(&error, f->data, end, end, index, index + bytes) == RQ_OK) return (void *)index;
  free(index);
  return NULL;
}

/* A refusal without what was expected is a finding too. */
static inline void check_refusal(int32_t code, const rq_error *error) {
  if (code < 0 && (error->code != code || !error->expected[0])) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

#endif
