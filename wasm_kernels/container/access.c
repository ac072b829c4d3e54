/* access.c: looking things up in an index that rq_gguf_parse made. The index is trusted here: its
 * offsets were checked once, and the values behind them are still checked for type and range. */
#include "parse.h"

const rq_gguf_kv *rq_gguf_kvs(const rq_gguf *index) {
  return (const rq_gguf_kv *)(const void *)((const uint8_t *)index + index->kv_start);
}

const rq_gguf_tensor *rq_gguf_tensors(const rq_gguf *index) {
  return (const rq_gguf_tensor *)(const void *)((const uint8_t *)index + index->tensor_start);
}

static const uint32_t *slots_at(const rq_gguf *index, uint32_t start) {
  return (const uint32_t *)(const void *)((const uint8_t *)index + start);
}

/* Tables are at most half full, so that every search ends at an empty slot. */
int32_t RQ_EXPORT rq_gguf_find_key(const void *index, const uint8_t *data, const uint8_t *key,
                                   int32_t key_bytes) {
  const rq_gguf *gguf = index;
  if (key_bytes <= 0 || gguf->kv_count == 0) return RQ_E_KEY;
  const uint32_t *slots = slots_at(gguf, gguf->kv_hash_start);
  uint32_t slot = rq_name_hash(key, (uint64_t)key_bytes) & gguf->kv_hash_mask;
  for (; slots[slot] != 0; slot = (slot + 1) & gguf->kv_hash_mask) {
    const rq_gguf_kv *kv = &rq_gguf_kvs(gguf)[slots[slot] - 1];
    if (kv->key_bytes == (uint32_t)key_bytes && rq_equal(data + kv->key_offset, key, kv->key_bytes))
      return (int32_t)(slots[slot] - 1);
  }
  return RQ_E_KEY;
}

int32_t RQ_EXPORT rq_gguf_find_tensor(const void *index, const uint8_t *data, const uint8_t *name,
                                      int32_t name_bytes) {
  const rq_gguf *gguf = index;
  if (name_bytes <= 0 || gguf->tensor_count == 0) return RQ_E_TENSOR;
  const uint32_t *slots = slots_at(gguf, gguf->tensor_hash_start);
  uint32_t slot = rq_name_hash(name, (uint64_t)name_bytes) & gguf->tensor_hash_mask;
  for (; slots[slot] != 0; slot = (slot + 1) & gguf->tensor_hash_mask) {
    const rq_gguf_tensor *tensor = &rq_gguf_tensors(gguf)[slots[slot] - 1];
    if (tensor->name_bytes == (uint32_t)name_bytes &&
        rq_equal(data + tensor->name_offset, name, tensor->name_bytes))
      return (int32_t)(slots[slot] - 1);
  }
  return RQ_E_TENSOR;
}

const rq_gguf_kv *rq_gguf_key(const rq_gguf *index, const uint8_t *data, const char *key) {
  int32_t position = rq_gguf_find_key(index, data, (const uint8_t *)key, (int32_t)rq_length(key));
  return position < 0 ? NULL : &rq_gguf_kvs(index)[position];
}

const rq_gguf_tensor *rq_gguf_tensor_named(const rq_gguf *index, const uint8_t *data, const char *name) {
  int32_t position = rq_gguf_find_tensor(index, data, (const uint8_t *)name, (int32_t)rq_length(name));
  return position < 0 ? NULL : &rq_gguf_tensors(index)[position];
}

void rq_gguf_next_string(const uint8_t *data, uint64_t *cursor, const char **text, uint32_t *bytes) {
  *bytes = (uint32_t)rq_load_u64(data + *cursor); /* parsed: at most RQ_MAX_STRING_BYTES */
  *text = (const char *)data + *cursor + 8;
  *cursor += 8 + (uint64_t)*bytes;
}

/* ---- typed reads ---- */

static int32_t fail_absent(rq_error *error, const char *key) {
  int32_t code = rq_fail(error, RQ_E_HYPERPARAMETER, "%s", key);
  rq_expected(error, "this metadata key");
  rq_actual(error, "no such key");
  rq_hint(error, "the file is no complete model, or its converter left the key out: convert it again");
  return code;
}

static int32_t fail_type(rq_error *error, const char *key, const char *expected, const rq_gguf_kv *kv) {
  int32_t code = rq_fail(error, RQ_E_VALUE, "%s", key);
  rq_expected(error, "%s", expected);
  if (kv->type == RQ_KV_ARRAY)
    rq_actual(error, "an array of %U values of type %s", kv->count, rq_kv_type_name(kv->element_type));
  else
    rq_actual(error, "a value of type %s", rq_kv_type_name(kv->type));
  return code;
}

/* Finds the key: RQ_OK with *kv NULL when it is absent and need not be there. */
static int32_t look_up(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                       bool required, const rq_gguf_kv **kv) {
  *kv = rq_gguf_key(index, data, key);
  return *kv || !required ? RQ_OK : fail_absent(error, key);
}

int32_t rq_gguf_read_u64(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                         bool required, uint64_t *out) {
  const rq_gguf_kv *kv;
  RQ_TRY(look_up(error, index, data, key, required, &kv));
  if (!kv) return RQ_OK;
  uint64_t value;
  if (kv->type == RQ_KV_ARRAY || !rq_kv_element_u64(data, kv, 0, &value))
    return fail_type(error, key, "an integer of at least 0", kv);
  *out = value;
  return RQ_OK;
}

int32_t rq_gguf_read_u32(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                         bool required, uint32_t *out) {
  uint64_t value = *out;
  RQ_TRY(rq_gguf_read_u64(error, index, data, key, required, &value));
  if (value > UINT32_MAX) {
    int32_t code = rq_fail(error, RQ_E_VALUE, "%s", key);
    rq_expected(error, "an integer below 2^32");
    rq_actual(error, "%U", value);
    return code;
  }
  *out = (uint32_t)value;
  return RQ_OK;
}

int32_t rq_gguf_read_f32(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                         bool required, float *out) {
  const rq_gguf_kv *kv;
  RQ_TRY(look_up(error, index, data, key, required, &kv));
  if (!kv) return RQ_OK;
  float value;
  if (kv->type == RQ_KV_F32) {
    value = rq_load_f32(data + kv->value_offset);
  } else if (kv->type == RQ_KV_F64) {
    uint64_t bits = rq_load_u64(data + kv->value_offset);
    double wide;
    rq_copy(&wide, &bits, sizeof wide);
    value = (float)wide;
  } else {
    return fail_type(error, key, "a number of type f32 or f64", kv);
  }
  if (!(value - value == 0.0f)) { /* false for NaN and both infinities */
    int32_t code = rq_fail(error, RQ_E_VALUE, "%s", key);
    rq_expected(error, "a finite number");
    rq_actual(error, "NaN, infinity or a number too large for f32");
    return code;
  }
  *out = value;
  return RQ_OK;
}

int32_t rq_gguf_read_bool(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                          bool required, bool *out) {
  const rq_gguf_kv *kv;
  RQ_TRY(look_up(error, index, data, key, required, &kv));
  if (!kv) return RQ_OK;
  if (kv->type != RQ_KV_BOOL) return fail_type(error, key, "a bool", kv);
  *out = data[kv->value_offset] != 0;
  return RQ_OK;
}

int32_t rq_gguf_read_string(rq_error *error, const rq_gguf *index, const uint8_t *data, const char *key,
                            bool required, const char **text, uint32_t *bytes) {
  const rq_gguf_kv *kv;
  *text = NULL;
  *bytes = 0;
  RQ_TRY(look_up(error, index, data, key, required, &kv));
  if (!kv) return RQ_OK;
  if (kv->type != RQ_KV_STRING) return fail_type(error, key, "a string", kv);
  *text = (const char *)data + kv->value_offset;
  *bytes = (uint32_t)kv->value_bytes;
  return RQ_OK;
}
