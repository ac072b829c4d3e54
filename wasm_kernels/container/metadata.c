/* metadata.c: one key-value pair of a GGUF file: read, checked to its last byte, and indexed. */
#include "parse.h"

typedef struct kv_type {
  const char *name;
  uint8_t bytes; /* 0: length is in the file */
} kv_type;

static const kv_type kv_types[] = {
    [RQ_KV_U8] = {"u8", 1},       [RQ_KV_I8] = {"i8", 1},     [RQ_KV_U16] = {"u16", 2},
    [RQ_KV_I16] = {"i16", 2},     [RQ_KV_U32] = {"u32", 4},   [RQ_KV_I32] = {"i32", 4},
    [RQ_KV_F32] = {"f32", 4},     [RQ_KV_BOOL] = {"bool", 1}, [RQ_KV_STRING] = {"string", 0},
    [RQ_KV_ARRAY] = {"array", 0}, [RQ_KV_U64] = {"u64", 8},   [RQ_KV_I64] = {"i64", 8},
    [RQ_KV_F64] = {"f64", 8},
};

uint32_t rq_kv_scalar_bytes(uint32_t type) {
  return type < (uint32_t)RQ_COUNT(kv_types) ? kv_types[type].bytes : 0;
}

const char *rq_kv_type_name(uint32_t type) {
  return type < (uint32_t)RQ_COUNT(kv_types) ? kv_types[type].name : "unknown";
}

/* The text of the key that is being read, for error messages. */
typedef struct key_text {
  const uint8_t *text;
  int32_t bytes;
} key_text;

static int32_t fail_for_key(rq_error *error, int32_t code, key_text key) {
  return rq_fail(error, code, "%.*s", key.bytes, (const char *)key.text);
}

/* A length and that many bytes of text: leaves the reader behind them. */
static int32_t read_text(rq_reader *reader, key_text key, uint64_t *offset, uint64_t *bytes) {
  RQ_TRY(rq_reader_u64(reader, bytes, "the length of a string"));
  if (*bytes > RQ_MAX_STRING_BYTES) {
    int32_t code = fail_for_key(reader->error, RQ_E_LIMIT, key);
    rq_expected(reader->error, "a string of at most %d bytes", (int32_t)RQ_MAX_STRING_BYTES);
    rq_actual(reader->error, "%U bytes", *bytes);
    return code;
  }
  RQ_TRY(rq_reader_need(reader, *bytes, "a string"));
  *offset = reader->at;
  if (!rq_text_valid(reader->data + reader->at, *bytes)) {
    int32_t code = fail_for_key(reader->error, RQ_E_STRING, key);
    rq_expected(reader->error, "text in UTF-8 without NUL");
    rq_actual(reader->error, "other bytes in the string at offset %U", *offset);
    return code;
  }
  reader->at += *bytes;
  return RQ_OK;
}

/* Enters the key into the hash table, or finds it there already. */
static int32_t enter_key(rq_reader *reader, rq_gguf *index, uint32_t position, key_text key) {
  uint32_t *slots = rq_kv_slots(index);
  const rq_gguf_kv *kvs = rq_gguf_kvs(index);
  uint32_t slot = rq_name_hash(key.text, (uint64_t)key.bytes) & index->kv_hash_mask;
  for (int32_t probe = 0; probe < RQ_MAX_PROBES; probe++, slot = (slot + 1) & index->kv_hash_mask) {
    if (slots[slot] == 0) {
      slots[slot] = position + 1;
      return RQ_OK;
    }
    const rq_gguf_kv *other = &kvs[slots[slot] - 1];
    if (other->key_bytes == (uint32_t)key.bytes &&
        rq_equal(reader->data + other->key_offset, key.text, other->key_bytes)) {
      int32_t code = fail_for_key(reader->error, RQ_E_KEY, key);
      rq_expected(reader->error, "every key once");
      rq_actual(reader->error, "this key again at offset %U", kvs[position].key_offset);
      return code;
    }
  }
  int32_t code = fail_for_key(reader->error, RQ_E_LIMIT, key);
  rq_expected(reader->error, "keys that hash apart");
  rq_actual(reader->error, "%d keys made to collide", (int32_t)RQ_MAX_PROBES);
  return code;
}

static int32_t read_key(rq_reader *reader, rq_gguf *index, uint32_t position, key_text *key) {
  rq_gguf_kv *kv = &rq_kvs_mutable(index)[position];
  uint64_t bytes;
  RQ_TRY(rq_reader_u64(reader, &bytes, "the length of a metadata key"));
  if (bytes == 0) {
    int32_t code = rq_fail(reader->error, RQ_E_KEY, "metadata key %u", position);
    rq_expected(reader->error, "a name");
    rq_actual(reader->error, "an empty key");
    return code;
  }
  if (bytes > RQ_MAX_KEY_BYTES) {
    int32_t code = rq_fail(reader->error, RQ_E_LIMIT, "metadata key %u", position);
    rq_expected(reader->error, "a key of at most %d bytes", (int32_t)RQ_MAX_KEY_BYTES);
    rq_actual(reader->error, "%U bytes", bytes);
    return code;
  }
  RQ_TRY(rq_reader_need(reader, bytes, "a metadata key"));
  key->text = reader->data + reader->at;
  key->bytes = (int32_t)bytes;
  kv->key_offset = reader->at;
  kv->key_bytes = (uint32_t)bytes;
  if (!rq_text_valid(key->text, bytes)) {
    int32_t code = rq_fail(reader->error, RQ_E_STRING, "metadata key %u", position);
    rq_expected(reader->error, "text in UTF-8 without NUL");
    rq_actual(reader->error, "other bytes in the key at offset %U", reader->at);
    return code;
  }
  reader->at += bytes;
  return enter_key(reader, index, position, *key);
}

static int32_t fail_value(rq_reader *reader, key_text key, const char *expected, const char *actual) {
  int32_t code = fail_for_key(reader->error, RQ_E_VALUE, key);
  rq_expected(reader->error, "%s", expected);
  rq_actual(reader->error, "%s", actual);
  return code;
}

static int32_t check_bools(rq_reader *reader, key_text key, uint64_t count) {
  for (uint64_t i = 0; i < count; i++)
    if (reader->data[reader->at + i] > 1) return fail_value(reader, key, "0 or 1 as a bool", "another byte");
  return RQ_OK;
}

static int32_t read_scalar(rq_reader *reader, key_text key, rq_gguf_kv *kv) {
  uint32_t bytes = rq_kv_scalar_bytes(kv->type);
  RQ_TRY(rq_reader_need(reader, bytes, "a metadata value"));
  if (kv->type == RQ_KV_BOOL) RQ_TRY(check_bools(reader, key, 1));
  kv->value_offset = reader->at;
  kv->value_bytes = bytes;
  reader->at += bytes;
  return RQ_OK;
}

static int32_t read_array(rq_reader *reader, key_text key, rq_gguf_kv *kv) {
  RQ_TRY(rq_reader_u32(reader, &kv->element_type, "the type of an array"));
  RQ_TRY(rq_reader_u64(reader, &kv->count, "the length of an array"));
  if (kv->element_type == RQ_KV_ARRAY)
    return fail_value(reader, key, "an array of numbers or strings", "an array of arrays");
  if (kv->element_type > RQ_KV_F64)
    return fail_value(reader, key, "a known element type (0 to 12)", "an array of an unknown type");
  if (kv->count > RQ_MAX_ARRAY_COUNT) {
    int32_t code = fail_for_key(reader->error, RQ_E_LIMIT, key);
    rq_expected(reader->error, "an array of at most %d elements", (int32_t)RQ_MAX_ARRAY_COUNT);
    rq_actual(reader->error, "%U elements", kv->count);
    return code;
  }
  kv->value_offset = reader->at;
  uint32_t element_bytes = rq_kv_scalar_bytes(kv->element_type);
  if (element_bytes) {
    uint64_t bytes = kv->count * element_bytes; /* at most 2^24 * 8 */
    RQ_TRY(rq_reader_need(reader, bytes, "the elements of an array"));
    if (kv->element_type == RQ_KV_BOOL) RQ_TRY(check_bools(reader, key, kv->count));
    reader->at += bytes;
  } else {
    /* every string takes 8 bytes at least: refuse a count that can't fit before walking to the end */
    int32_t room = rq_reader_need(reader, kv->count * 8, "the strings of an array");
    if (room < 0) return room;
    for (uint64_t i = 0, offset, bytes; i < kv->count; i++) RQ_TRY(read_text(reader, key, &offset, &bytes));
  }
  kv->value_bytes = reader->at - kv->value_offset;
  return RQ_OK;
}

int32_t rq_parse_kv(rq_reader *reader, rq_gguf *index, uint32_t position) {
  rq_gguf_kv *kv = &rq_kvs_mutable(index)[position];
  key_text key = {NULL, 0};
  RQ_TRY(read_key(reader, index, position, &key));
  RQ_TRY(rq_reader_u32(reader, &kv->type, "the type of a metadata value"));
  kv->element_type = kv->type;
  kv->count = 1;
  if (kv->type == RQ_KV_ARRAY) return read_array(reader, key, kv);
  if (kv->type == RQ_KV_STRING) return read_text(reader, key, &kv->value_offset, &kv->value_bytes);
  if (kv->type > RQ_KV_F64) {
    int32_t code = fail_for_key(reader->error, RQ_E_VALUE, key);
    rq_expected(reader->error, "a known value type (0 to 12)");
    rq_actual(reader->error, "type %u", kv->type);
    return code;
  }
  return read_scalar(reader, key, kv);
}

bool rq_kv_element_u64(const uint8_t *data, const rq_gguf_kv *kv, uint64_t element, uint64_t *out) {
  const uint8_t *at = data + kv->value_offset + element * rq_kv_scalar_bytes(kv->element_type);
  int64_t value;
  switch (kv->element_type) {
    case RQ_KV_U8: value = at[0]; break;
    case RQ_KV_I8: value = (int8_t)at[0]; break;
    case RQ_KV_U16: value = (uint16_t)(at[0] | at[1] << 8); break;
    case RQ_KV_I16: value = (int16_t)(at[0] | at[1] << 8); break;
    case RQ_KV_U32: value = rq_load_u32(at); break;
    case RQ_KV_I32: value = (int32_t)rq_load_u32(at); break;
    case RQ_KV_I64: value = (int64_t)rq_load_u64(at); break;
    case RQ_KV_U64: *out = rq_load_u64(at); return true;
    default: return false;
  }
  *out = (uint64_t)value;
  return value >= 0;
}
