/* container.h: reading an indexed GGUF file from inside the core (model, tokenizer). */
#ifndef RQ_CONTAINER_H
#define RQ_CONTAINER_H
#include "../base/base.h"

const rq_gguf_kv *rq_gguf_kvs(const rq_gguf *index);
const rq_gguf_tensor *rq_gguf_tensors(const rq_gguf *index);

/* A key by its NUL-terminated name, NULL when the file hasn't got it. */
const rq_gguf_kv *rq_gguf_key(const rq_gguf *index, const uint8_t *data, const char *key);
const rq_gguf_tensor *rq_gguf_tensor_named(const rq_gguf *index, const uint8_t *data, const char *name);

/* Typed reads of one value. Integers of any width and sign convert when the value fits; a key that
 * is there with another type is an error (RQ_E_VALUE), an absent one leaves *out and gives RQ_OK
 * with `required` false, RQ_E_HYPERPARAMETER with `required` true. */
int32_t rq_gguf_read_u32(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                         bool required, uint32_t *out);
int32_t rq_gguf_read_f32(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                         bool required, float *out);
int32_t rq_gguf_read_bool(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                          bool required, bool *out);
int32_t rq_gguf_read_u64(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                         bool required, uint64_t *out);
/* Text of a string value (not NUL-terminated); *text is NULL when absent and not required. */
int32_t rq_gguf_read_string(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                            bool required, const char **text, uint32_t *bytes);

/* Walks an array of strings: start with *cursor = kv->value_offset; gives the next text. */
void rq_gguf_next_string(const uint8_t *data, uint64_t *cursor, const char **text, uint32_t *bytes);

/* Unaligned little-endian loads. */
uint32_t rq_load_u32(const uint8_t *at);
uint64_t rq_load_u64(const uint8_t *at);
float rq_load_f32(const uint8_t *at);

#endif
