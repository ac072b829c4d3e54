/* parse.c: the one validating GGUF parser behind every host. Nothing is sized by a number from the
 * file before that number is known to fit the file and the limits of ruvq.h; the work is linear in
 * the header's bytes. The model's own rules (hyper-parameters, needed tensors) are not known here. */
#include "parse.h"

enum {
  HEADER_BYTES = 24,       /* magic, version, two counts */
  KV_LEAST_BYTES = 14,     /* length, one byte of key, type, one byte of value */
  TENSOR_LEAST_BYTES = 25, /* length, one byte of name, n_dims, type, offset */
  ALIGNMENT_DEFAULT = 32,
  ALIGNMENT_LEAST = 8,
};
#define BIG_ENDIAN_HINT "this is a big-endian GGUF file: convert it to little-endian first"

/* ---- what the file is, if it is no GGUF ---- */

static bool starts_with(const rq_reader *reader, uint64_t at, const char *text) {
  for (uint64_t i = 0; text[i]; i++) {
    if (at + i >= reader->present) return false;
    uint8_t c = reader->data[at + i];
    if (c >= 'A' && c <= 'Z') c = (uint8_t)(c + 32); /* `text` is lower case */
    if (c != (uint8_t)text[i]) return false;
  }
  return true;
}

static const char *guess_kind(const rq_reader *reader) {
  uint64_t at = starts_with(reader, 0, "\xef\xbb\xbf") ? 3 : 0; /* a byte order mark */
  while (at < reader->present && at < 256 &&
         (reader->data[at] == ' ' || (reader->data[at] >= '\t' && reader->data[at] <= '\r')))
    at++;
  if (starts_with(reader, at, "<!doctype") || starts_with(reader, at, "<html") ||
      starts_with(reader, at, "<head") || starts_with(reader, at, "<?xml") || starts_with(reader, at, "<!--"))
    return "it looks like an HTML page (an error page or a login?): check the URL";
  if (starts_with(reader, 0, "version https://git-lfs"))
    return "it is a Git LFS pointer, not the model itself: fetch the real file";
  if (starts_with(reader, 0, "fugg")) return BIG_ENDIAN_HINT;
  if (starts_with(reader, 0, "lmgg") || starts_with(reader, 0, "tjgg") || starts_with(reader, 0, "fmgg"))
    return "it is a ggml file from before GGUF: convert the original model again";
  if (starts_with(reader, 0, "pk\x03\x04"))
    return "it is a zip archive or a PyTorch checkpoint, not a GGUF file";
  if (starts_with(reader, 8, "{\""))
    return "it looks like a safetensors file: convert it with `ruvq quantize`";
  if (starts_with(reader, at, "{") || starts_with(reader, at, "[")) return "it looks like JSON, not a model";
  return "give a GGUF model file";
}

static int32_t check_magic(rq_reader *reader) {
  static const uint8_t magic[4] = {'G', 'G', 'U', 'F'};
  uint64_t there = reader->present < 4 ? reader->present : 4;
  if (!rq_equal(reader->data, magic, (size_t)there)) {
    int32_t code = rq_fail(reader->error, RQ_E_MAGIC, "the file");
    uint32_t found = 0;
    for (uint64_t i = 0; i < there; i++) found = found << 8 | reader->data[i];
    rq_expected(reader->error, "a GGUF file, which begins with \"GGUF\"");
    rq_actual(reader->error, "\"%.*s\" (bytes %x)", (int)there, (const char *)reader->data, found);
    rq_hint(reader->error, "%s", guess_kind(reader));
    return code;
  }
  RQ_TRY(rq_reader_need(reader, HEADER_BYTES, "the GGUF header"));
  reader->at = 4;
  return RQ_OK;
}

static int32_t check_version(rq_reader *reader, uint32_t *version) {
  RQ_TRY(rq_reader_u32(reader, version, "the GGUF version"));
  if (*version == 2 || *version == 3) return RQ_OK;
  int32_t code = rq_fail(reader->error, RQ_E_VERSION, "the GGUF version");
  rq_expected(reader->error, "version 2 or 3");
  rq_actual(reader->error, "version %u", *version);
  if (*version == 1)
    rq_hint(reader->error, "version 1 had 32-bit lengths and is no longer read: convert the model again");
  else if (*version != 0 && (*version & 0xFFFF) == 0)
    rq_hint(reader->error, BIG_ENDIAN_HINT);
  else
    rq_hint(reader->error,
            *version > 3 ? "the file is newer than this version of ruvq, or damaged" : "the file is damaged");
  return code;
}

/* A count that the limits allow and the file has room for. */
static int32_t read_count(rq_reader *reader, const char *what, uint32_t limit, uint64_t least_bytes,
                          uint64_t *room, uint32_t *out) {
  uint64_t count;
  RQ_TRY(rq_reader_u64(reader, &count, what));
  if (count > limit) {
    int32_t code = rq_fail(reader->error, RQ_E_LIMIT, "%s", what);
    rq_expected(reader->error, "at most %u", limit);
    rq_actual(reader->error, "%U", count);
    rq_hint(reader->error, "the file is damaged, or was made to do harm");
    return code;
  }
  if (count * least_bytes > *room) {
    int32_t code = rq_fail(reader->error, RQ_E_TRUNCATED, "%s", what);
    rq_expected(reader->error, "a file that has room for %U entries", count);
    rq_actual(reader->error, "a file of %U bytes", reader->file);
    rq_hint(reader->error, "the file was cut short or is damaged: download or copy it again");
    return code;
  }
  *room -= count * least_bytes;
  *out = (uint32_t)count;
  return RQ_OK;
}

/* Magic, version and counts; fills in where everything in the index will lie. */
static int32_t begin(rq_reader *reader, rq_gguf *index) {
  rq_zero(index, sizeof *index);
  RQ_TRY(check_magic(reader));
  RQ_TRY(check_version(reader, &index->version));
  uint64_t room = reader->file - HEADER_BYTES;
  RQ_TRY(read_count(reader, "the number of tensors", RQ_MAX_TENSORS, TENSOR_LEAST_BYTES, &room,
                    &index->tensor_count));
  RQ_TRY(read_count(reader, "the number of metadata keys", RQ_MAX_KEYS, KV_LEAST_BYTES, &room,
                    &index->kv_count));
  uint32_t kv_slots = rq_hash_slots(index->kv_count), tensor_slots = rq_hash_slots(index->tensor_count);
  /* with the limits above all of this stays below 16 MB */
  index->kv_start = (uint32_t)((sizeof *index + 7) & ~(size_t)7);
  index->tensor_start = index->kv_start + index->kv_count * (uint32_t)sizeof(rq_gguf_kv);
  index->kv_hash_start = index->tensor_start + index->tensor_count * (uint32_t)sizeof(rq_gguf_tensor);
  index->tensor_hash_start = index->kv_hash_start + kv_slots * 4;
  index->index_bytes = index->tensor_hash_start + tensor_slots * 4;
  index->kv_hash_mask = kv_slots - 1;
  index->tensor_hash_mask = tensor_slots - 1;
  index->file_bytes = reader->file;
  return RQ_OK;
}

static int32_t open_reader(rq_reader *reader, rq_error *error, const uint8_t *data,
                           const uint8_t *present_end, const uint8_t *file_end) {
  if (error) rq_zero(error, sizeof *error);
  if (!data || (uintptr_t)present_end < (uintptr_t)data || (uintptr_t)file_end < (uintptr_t)present_end) {
    int32_t code = rq_fail(error, RQ_E_ARGUMENT, "data, present_end, file_end");
    rq_expected(error, "addresses in ascending order");
    rq_actual(error, "other addresses");
    return code;
  }
  reader->data = data;
  reader->present = (uint64_t)((uintptr_t)present_end - (uintptr_t)data);
  reader->file = (uint64_t)((uintptr_t)file_end - (uintptr_t)data);
  reader->at = 0;
  reader->error = error;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_gguf_index_bytes(rq_error *error, const uint8_t *data, const uint8_t *present_end,
                                      const uint8_t *file_end, uint64_t *bytes) {
  rq_reader reader;
  rq_gguf index;
  *bytes = 0;
  RQ_TRY(open_reader(&reader, error, data, present_end, file_end));
  RQ_TRY(begin(&reader, &index));
  *bytes = index.index_bytes;
  return RQ_OK;
}

/* ---- the whole header ---- */

static int32_t read_alignment(rq_error *error, rq_gguf *index, const uint8_t *data) {
  const rq_gguf_kv *kv = rq_gguf_key(index, data, "general.alignment");
  index->alignment = ALIGNMENT_DEFAULT;
  if (!kv) return RQ_OK;
  uint32_t value = kv->type == RQ_KV_U32 ? rq_load_u32(data + kv->value_offset) : 0;
  if (value < ALIGNMENT_LEAST || value > RQ_MAX_ALIGNMENT || (value & (value - 1)) != 0) {
    int32_t code = rq_fail(error, RQ_E_ALIGNMENT, "general.alignment");
    rq_expected(error, "a u32, a power of two from %d to %d", (int32_t)ALIGNMENT_LEAST,
                (int32_t)RQ_MAX_ALIGNMENT);
    if (kv->type == RQ_KV_U32)
      rq_actual(error, "%u", value);
    else
      rq_actual(error, "a value of type %s", rq_kv_type_name(kv->type));
    return code;
  }
  index->alignment = value;
  return RQ_OK;
}

static int32_t parse_all(rq_reader *reader, rq_gguf *index) {
  bool ruvllm_types;
  for (uint32_t i = 0; i < index->kv_count; i++) RQ_TRY(rq_parse_kv(reader, index, i));
  RQ_TRY(read_alignment(reader->error, index, reader->data));
  RQ_TRY(rq_split_read(reader->error, index, reader->data));
  RQ_TRY(rq_layout_namespace(reader->error, index, reader->data, &ruvllm_types));
  for (uint32_t i = 0; i < index->tensor_count; i++) RQ_TRY(rq_parse_tensor(reader, index, i, ruvllm_types));
  index->header_bytes = reader->at;
  uint64_t mask = (uint64_t)index->alignment - 1;
  index->data_start = (reader->at + mask) & ~mask;
  RQ_TRY(rq_place_tensors(reader, index));
  if (index->split_count > 1) return RQ_OK; /* the lists in the first shard are about the tensors of all */
  RQ_TRY(rq_layout_apply(reader->error, index, reader->data));
  return rq_integrity_shape(reader->error, index, reader->data);
}

int32_t RQ_EXPORT rq_gguf_parse(rq_error *error, const uint8_t *data, const uint8_t *present_end,
                                const uint8_t *file_end, void *index, void *index_end) {
  rq_reader reader;
  rq_gguf start;
  RQ_TRY(open_reader(&reader, error, data, present_end, file_end));
  RQ_TRY(begin(&reader, &start));
  uint64_t given = (uintptr_t)index_end > (uintptr_t)index ? (uintptr_t)index_end - (uintptr_t)index : 0;
  if (!index || ((uintptr_t)index & 7) != 0 || given < start.index_bytes) {
    int32_t code = rq_fail(error, RQ_E_MEMORY, "the memory for the index");
    rq_expected(error, "%u bytes at an address divisible by 8", start.index_bytes);
    rq_actual(error, "%U bytes", given);
    return code;
  }
  rq_zero(index, start.index_bytes);
  *(rq_gguf *)index = start;
  int32_t code = parse_all(&reader, index);
  if (code != RQ_OK) rq_zero(index, sizeof start); /* never a partial index that looks like one */
  return code;
}
