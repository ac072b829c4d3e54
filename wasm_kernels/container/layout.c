/* layout.c: ruvq's own metadata: what I8 tensors hold, whose type ids 40 and 41 are, and the shape of
 * the recorded digests. Everything here comes from the file and is believed only after a check. */
#include "../formats/formats.h" /* names and row sizes of ruvq's formats */
#include "parse.h"

#define KEY_VERSION "ruvq.layout_version"
#define KEY_NAMES "ruvq.tensor.names"
#define KEY_FORMATS "ruvq.tensor.formats"
#define KEY_WIDTHS "ruvq.tensor.widths"
#define KEY_NAMESPACE "ruvq.type_namespace"

static int32_t fail_layout(rq_error *error, const char *subject, const char *expected, const char *actual) {
  int32_t code = rq_fail(error, RQ_E_LAYOUT, "%s", subject);
  rq_expected(error, "%s", expected);
  rq_actual(error, "%s", actual);
  return code;
}

int32_t rq_layout_namespace(rq_error *error, const rq_gguf *index, const uint8_t *data, bool *ruvllm_types) {
  static const char ruvllm[] = "ruvllm";
  const rq_gguf_kv *kv = rq_gguf_key(index, data, KEY_NAMESPACE);
  *ruvllm_types = false;
  if (!kv) return RQ_OK;
  if (kv->type == RQ_KV_STRING && kv->value_bytes == sizeof ruvllm - 1 &&
      rq_equal(data + kv->value_offset, ruvllm, sizeof ruvllm - 1)) {
    *ruvllm_types = true;
    return RQ_OK;
  }
  int32_t code = rq_fail(error, RQ_E_LAYOUT, KEY_NAMESPACE);
  rq_expected(error, "the string \"ruvllm\", or no such key");
  if (kv->type == RQ_KV_STRING)
    rq_actual(error, "\"%.*s\"", (int)rq_min_i32((int32_t)kv->value_bytes, 100),
              (const char *)data + kv->value_offset);
  else
    rq_actual(error, "a value of type %s", rq_kv_type_name(kv->type));
  rq_hint(error, "the meaning of type ids 40 and 41 depends on this key: update ruvq, or convert again");
  return code;
}

static int32_t read_version(rq_error *error, rq_gguf *index, const uint8_t *data) {
  const rq_gguf_kv *kv = rq_gguf_key(index, data, KEY_VERSION);
  if (!kv) return RQ_OK;
  if (kv->type != RQ_KV_U32) return fail_layout(error, KEY_VERSION, "a u32", rq_kv_type_name(kv->type));
  uint32_t version = rq_load_u32(data + kv->value_offset);
  if (version == 0 || version > RQ_LAYOUT_VERSION) {
    int32_t code = rq_fail(error, RQ_E_LAYOUT, KEY_VERSION);
    rq_expected(error, "layout version 1 to %d", (int32_t)RQ_LAYOUT_VERSION);
    rq_actual(error, "layout version %u", version);
    if (version > 0)
      rq_hint(error, "needs layout version %u, this is %d: update ruvq", version, (int32_t)RQ_LAYOUT_VERSION);
    else
      rq_hint(error, "versions count from 1: the file is damaged, make it again");
    return code;
  }
  index->layout_version = version;
  return RQ_OK;
}

/* What one entry of the three arrays says about one tensor. */
typedef struct own_tensor {
  const char *name, *format;
  uint32_t name_bytes, format_bytes;
  uint64_t width;
} own_tensor;

static int32_t fail_own(rq_error *error, const own_tensor *own, const char *expected) {
  int32_t code = own->name_bytes == 0
                     ? rq_fail(error, RQ_E_LAYOUT, KEY_NAMES)
                     : rq_fail(error, RQ_E_LAYOUT, "%.*s",
                               rq_min_i32((int32_t)own->name_bytes, RQ_MAX_NAME_BYTES), own->name);
  rq_expected(error, "%s", expected);
  return code;
}

/* The format of this name if it is one of ruvq's own that I8 tensors may hold. */
static int32_t own_format(const own_tensor *own) {
  int32_t format = rq_format_named(own->format, (int32_t)own->format_bytes);
  rq_format_info info;
  if (format < 0 || rq_format_describe(format, &info) != RQ_OK) return RQ_FORMAT_NONE;
  return info.own && info.ggml_type == RQ_GGML_I8 ? format : RQ_FORMAT_NONE;
}

static int32_t apply_one(rq_error *error, rq_gguf *index, const uint8_t *data, const own_tensor *own) {
  int32_t position = rq_gguf_find_tensor(index, data, (const uint8_t *)own->name, (int32_t)own->name_bytes);
  if (position < 0) {
    int32_t code = fail_own(error, own, "a tensor of this name, because " KEY_NAMES " lists it");
    rq_actual(error, "no such tensor");
    return code;
  }
  rq_gguf_tensor *tensor = &rq_tensors_mutable(index)[position];
  if (tensor->ggml_type != RQ_GGML_I8) {
    int32_t code = fail_own(error, own, "type I8, as a tensor in one of ruvq's formats has");
    rq_actual(error, "type %s", rq_ggml_type_get((uint32_t)tensor->ggml_type)->name);
    return code;
  }
  if (tensor->format != RQ_FORMAT_NONE) {
    int32_t code = fail_own(error, own, "every tensor once in " KEY_NAMES);
    rq_actual(error, "this name again");
    return code;
  }
  int32_t format = own_format(own);
  if (format == RQ_FORMAT_NONE) {
    int32_t code = fail_own(error, own, "one of ruvq's own formats in " KEY_FORMATS);
    rq_actual(error, "\"%.*s\"", rq_min_i32((int32_t)own->format_bytes, 100), own->format);
    rq_hint(error, "the file may be of a newer version: update ruvq");
    return code;
  }
  int32_t row_bytes = own->width > 0 && own->width <= INT32_MAX && tensor->rows <= INT32_MAX
                          ? rq_format_row_bytes(format, (int32_t)own->width)
                          : RQ_E_SHAPE;
  if (row_bytes < 0 || (uint64_t)row_bytes != tensor->dims[0]) {
    int32_t code = fail_own(error, own, "rows as long as the format needs for the recorded width");
    rq_actual(error, "rows of %U bytes for %U weights in %.*s, which takes %d", tensor->dims[0], own->width,
              (int)own->format_bytes, own->format, row_bytes);
    return code;
  }
  tensor->format = format;
  tensor->width = own->width;
  return RQ_OK;
}

static int32_t apply_arrays(rq_error *error, rq_gguf *index, const uint8_t *data, const rq_gguf_kv *names,
                            const rq_gguf_kv *formats, const rq_gguf_kv *widths) {
  uint64_t name_cursor = names->value_offset, format_cursor = formats->value_offset;
  for (uint64_t i = 0; i < names->count; i++) {
    own_tensor own;
    rq_gguf_next_string(data, &name_cursor, &own.name, &own.name_bytes);
    rq_gguf_next_string(data, &format_cursor, &own.format, &own.format_bytes);
    if (!rq_kv_element_u64(data, widths, i, &own.width))
      return fail_layout(error, KEY_WIDTHS, "an array of positive integers", "something else");
    RQ_TRY(apply_one(error, index, data, &own));
  }
  return RQ_OK;
}

static bool is_array_of(const rq_gguf_kv *kv, uint32_t element_type) {
  return kv->type == RQ_KV_ARRAY && kv->element_type == element_type;
}

int32_t rq_layout_apply(rq_error *error, rq_gguf *index, const uint8_t *data) {
  const rq_gguf_kv *names = rq_gguf_key(index, data, KEY_NAMES);
  const rq_gguf_kv *formats = rq_gguf_key(index, data, KEY_FORMATS);
  const rq_gguf_kv *widths = rq_gguf_key(index, data, KEY_WIDTHS);
  RQ_TRY(read_version(error, index, data));
  if (!names && !formats && !widths) return RQ_OK;
  if (index->layout_version == 0)
    return fail_layout(error, KEY_VERSION, "a layout version beside the ruvq.tensor.* arrays", "no such key");
  if (!names || !formats || !widths)
    return fail_layout(error,
                       !names     ? KEY_NAMES
                       : !formats ? KEY_FORMATS
                                  : KEY_WIDTHS,
                       "all three ruvq.tensor.* arrays", "this one is missing");
  if (!is_array_of(names, RQ_KV_STRING))
    return fail_layout(error, KEY_NAMES, "an array of strings", "another type");
  if (!is_array_of(formats, RQ_KV_STRING))
    return fail_layout(error, KEY_FORMATS, "an array of strings", "another type");
  if (widths->type != RQ_KV_ARRAY)
    return fail_layout(error, KEY_WIDTHS, "an array of integers", "another type");
  if (names->count != formats->count || names->count != widths->count) {
    int32_t code = rq_fail(error, RQ_E_LAYOUT, KEY_NAMES);
    rq_expected(error, "ruvq.tensor.* arrays of equal length");
    rq_actual(error, "%U names, %U formats, %U widths", names->count, formats->count, widths->count);
    return code;
  }
  return apply_arrays(error, index, data, names, formats, widths);
}

/* ---- digests ---- */

static bool is_digest(const uint8_t *text, uint64_t bytes) {
  if (bytes != RQ_DIGEST_TEXT) return false;
  for (uint64_t i = 0; i < bytes; i++)
    if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) return false;
  return true;
}

static int32_t fail_digest(rq_error *error, const char *key, const char *expected) {
  int32_t code = rq_fail(error, RQ_E_INTEGRITY, "%s", key);
  rq_expected(error, "%s", expected);
  rq_actual(error, "something else");
  rq_hint(error, "the file was changed by a tool that does not know ruvq's digests, or is damaged");
  return code;
}

int32_t rq_integrity_shape(rq_error *error, const rq_gguf *index, const uint8_t *data) {
  const rq_gguf_kv *header = rq_gguf_key(index, data, RQ_KEY_HEADER_DIGEST);
  if (header &&
      !(header->type == RQ_KV_STRING && is_digest(data + header->value_offset, header->value_bytes)))
    return fail_digest(error, RQ_KEY_HEADER_DIGEST, "64 lower-case hexadecimal digits");
  const rq_gguf_kv *list = rq_gguf_key(index, data, RQ_KEY_TENSOR_DIGESTS);
  if (!list) return RQ_OK;
  if (!is_array_of(list, RQ_KV_STRING) || list->count != index->tensor_count)
    return fail_digest(error, RQ_KEY_TENSOR_DIGESTS, "an array of strings, one for each tensor");
  uint64_t cursor = list->value_offset;
  for (uint64_t i = 0; i < list->count; i++) {
    const char *text;
    uint32_t bytes;
    rq_gguf_next_string(data, &cursor, &text, &bytes);
    if (!is_digest((const uint8_t *)text, bytes))
      return fail_digest(error, RQ_KEY_TENSOR_DIGESTS, "64 lower-case hexadecimal digits in each string");
  }
  return RQ_OK;
}
