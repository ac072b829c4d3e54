/* parse.h: the pieces of the GGUF parser, shared by its files and by nobody else. */
#ifndef RQ_PARSE_H
#define RQ_PARSE_H
#include "container.h"

/* Leaves the function with anything but RQ_OK. */
#define RQ_TRY(expression)                  \
  do {                                      \
    int32_t try_code = (expression);        \
    if (try_code != RQ_OK) return try_code; \
  } while (0)

/* ---- ggml's types ---- */

typedef struct rq_ggml_type {
  const char *name;       /* NULL: never assigned */
  uint16_t block_weights; /* 0: removed from ggml, can't be read any more */
  uint16_t block_bytes;
} rq_ggml_type;

enum { RQ_GGML_NVFP4 = 40, RQ_GGML_Q1_0 = 41, RQ_GGML_TYPE_COUNT = 43 };
/* NULL when the id is outside the table. */
const rq_ggml_type *rq_ggml_type_get(uint32_t id);

/* ---- reading with every length checked ---- */

typedef struct rq_reader {
  const uint8_t *data;
  uint64_t present; /* bytes that are there */
  uint64_t file;    /* bytes the file has */
  uint64_t at;
  rq_error *error;
} rq_reader;

/* RQ_OK when `bytes` more can be read, RQ_MORE when the file has them but they aren't there yet,
 * RQ_E_TRUNCATED when the file ends before. `what` names the thing being read. */
int32_t rq_reader_need(rq_reader *reader, uint64_t bytes, const char *what);
int32_t rq_reader_u32(rq_reader *reader, uint32_t *out, const char *what);
int32_t rq_reader_u64(rq_reader *reader, uint64_t *out, const char *what);

/* ---- metadata ---- */

/* Bytes of one scalar of a metadata type, 0 for strings, arrays and unknown types. */
uint32_t rq_kv_scalar_bytes(uint32_t type);
const char *rq_kv_type_name(uint32_t type);
/* Reads key-value pair `position` into the index. */
int32_t rq_parse_kv(rq_reader *reader, rq_gguf *index, uint32_t position);
/* An element of an array of integers of any width; false: negative or not integers. */
bool rq_kv_element_u64(const uint8_t *data, const rq_gguf_kv *kv, uint64_t element, uint64_t *out);
/* Valid UTF-8 without NUL. */
bool rq_text_valid(const uint8_t *text, uint64_t bytes);

/* ---- hash tables: open addressing, position + 1 in each slot, 0 for none ---- */

/* Probes after which a file counts as made to collide; honest names stay far below. */
enum { RQ_MAX_PROBES = 512 };

uint32_t rq_name_hash(const uint8_t *name, uint64_t bytes);
/* Power of two with at most half of it used. */
uint32_t rq_hash_slots(uint32_t count);
static inline uint32_t *rq_kv_slots(rq_gguf *index) {
  return (uint32_t *)(void *)((uint8_t *)index + index->kv_hash_start);
}
static inline uint32_t *rq_tensor_slots(rq_gguf *index) {
  return (uint32_t *)(void *)((uint8_t *)index + index->tensor_hash_start);
}
static inline rq_gguf_kv *rq_kvs_mutable(rq_gguf *index) {
  return (rq_gguf_kv *)(void *)((uint8_t *)index + index->kv_start);
}
static inline rq_gguf_tensor *rq_tensors_mutable(rq_gguf *index) {
  return (rq_gguf_tensor *)(void *)((uint8_t *)index + index->tensor_start);
}

/* ---- tensors and ruvq's own metadata ---- */

int32_t rq_parse_tensor(rq_reader *reader, rq_gguf *index, uint32_t position, bool ruvllm_types);
/* Turns the offsets of all tensors into places in the file, and checks that they fill it. */
int32_t rq_place_tensors(rq_reader *reader, rq_gguf *index);
/* ruvq.type_namespace: whether ids 40 and 41 are the ruvllm types. */
int32_t rq_layout_namespace(rq_error *error, const rq_gguf *index, const uint8_t *data, bool *ruvllm_types);
/* split.no, split.count and split.tensors.count: whether the file is one of several. */
int32_t rq_split_read(rq_error *error, rq_gguf *index, const uint8_t *data);
/* Enters a tensor's name, RQ_E_NAME when it is there already; `data` is what name_offset counts from. */
int32_t rq_enter_tensor_name(rq_error *error, rq_gguf *index, const uint8_t *data, uint32_t position);
/* ruvq.layout_version and the arrays that say what I8 tensors hold. */
int32_t rq_layout_apply(rq_error *error, rq_gguf *index, const uint8_t *data);
/* The shape of the recorded digests, so that later reads need not doubt it. */
int32_t rq_integrity_shape(rq_error *error, const rq_gguf *index, const uint8_t *data);

enum { RQ_DIGEST_TEXT = 64 }; /* SHA-256 in hexadecimal */
#define RQ_KEY_TENSOR_DIGESTS "ruvq.sha256.tensors"
#define RQ_KEY_HEADER_DIGEST "ruvq.sha256.header"

#endif
