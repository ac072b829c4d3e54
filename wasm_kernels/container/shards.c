/* shards.c: a model in several files, by llama.cpp's split.* keys: what one file says about it, and the joint
 * index of all of them. The first file has the metadata; every file has some of the tensors. */
#include "parse.h"

#define KEY_COUNT "split.count"
#define KEY_NO "split.no"
#define KEY_TENSORS "split.tensors.count"
#define KEY_ARCHITECTURE "general.architecture"
#define SHARDS_HINT "give every shard once, in order, all of one model: name-00001-of-00003.gguf and so on"

static int32_t fail_limit(rq_error *error, const char *key, uint32_t most, uint32_t actual) {
  int32_t code = rq_fail(error, RQ_E_LIMIT, "%s", key);
  rq_expected(error, "at most %u", most);
  rq_actual(error, "%u", actual);
  rq_hint(error, "the file is damaged, or was made to do harm");
  return code;
}

int32_t rq_split_read(rq_error *error, rq_gguf *index, const uint8_t *data) {
  index->split_count = 1;
  index->split_tensors = index->tensor_count;
  RQ_TRY(rq_gguf_read_u32(error, index, data, KEY_COUNT, false, &index->split_count));
  if (index->split_count <= 1) {
    index->split_count = 1;
    return RQ_OK;
  }
  if (index->split_count > RQ_MAX_SHARDS)
    return fail_limit(error, KEY_COUNT, RQ_MAX_SHARDS, index->split_count);
  RQ_TRY(rq_gguf_read_u32(error, index, data, KEY_NO, true, &index->split_no));
  if (index->split_no >= index->split_count)
    return fail_limit(error, KEY_NO, index->split_count - 1, index->split_no);
  RQ_TRY(rq_gguf_read_u32(error, index, data, KEY_TENSORS, true, &index->split_tensors));
  if (index->split_tensors > RQ_MAX_TENSORS)
    return fail_limit(error, KEY_TENSORS, RQ_MAX_TENSORS, index->split_tensors);
  return RQ_OK;
}

/* ---- joining ---- */

static int32_t fail_shard(rq_error *error, const rq_gguf *shard, const char *expected) {
  int32_t code = rq_fail(error, RQ_E_SHARD, "shard %u of %u", shard->split_no + 1, shard->split_count);
  rq_expected(error, "%s", expected);
  rq_hint(error, SHARDS_HINT);
  return code;
}

/* Where everything lies in the index of all of them. */
static rq_gguf lay_out(const rq_gguf *first) {
  rq_gguf joined = *first;
  joined.tensor_count = 0;
  joined.file_bytes = 0;
  joined.split_no = 0;
  uint32_t kv_slots = first->kv_hash_mask + 1, tensor_slots = rq_hash_slots(first->split_tensors);
  joined.kv_hash_start = joined.tensor_start + first->split_tensors * (uint32_t)sizeof(rq_gguf_tensor);
  joined.tensor_hash_start = joined.kv_hash_start + kv_slots * 4;
  joined.tensor_hash_mask = tensor_slots - 1;
  joined.index_bytes = joined.tensor_hash_start + tensor_slots * 4;
  return joined;
}

static int32_t check_first(rq_error *error, const rq_gguf *first) {
  if (first->split_count > 1 && first->split_no == 0 && !first->joined) return RQ_OK;
  int32_t code = fail_shard(error, first, "the first of several shards");
  rq_actual(error, first->split_count > 1 ? "another shard" : "a model in one file");
  return code;
}

int32_t RQ_EXPORT rq_gguf_join_bytes(rq_error *error, const void *first_index, uint64_t *bytes) {
  RQ_TRY(check_first(error, first_index));
  *bytes = lay_out(first_index).index_bytes;
  return RQ_OK;
}

static int32_t check_place(rq_error *error, const uint8_t *data, const uint8_t *shard_data) {
  if ((uintptr_t)shard_data >= (uintptr_t)data) return RQ_OK;
  int32_t code = rq_fail(error, RQ_E_ARGUMENT, "data");
  rq_expected(error, "the lowest address of all shards");
  rq_actual(error, "a shard below it");
  return code;
}

int32_t RQ_EXPORT rq_gguf_join_begin(rq_error *error, const uint8_t *data, const void *first_index,
                                     const uint8_t *first_data, void *index, void *index_end) {
  const rq_gguf *first = first_index;
  RQ_TRY(check_first(error, first));
  RQ_TRY(check_place(error, data, first_data));
  rq_gguf joined = lay_out(first);
  uint64_t given = (uintptr_t)index_end > (uintptr_t)index ? (uintptr_t)index_end - (uintptr_t)index : 0;
  if (!index || ((uintptr_t)index & 7) != 0 || given < joined.index_bytes) {
    int32_t code = rq_fail(error, RQ_E_MEMORY, "the memory for the index");
    rq_expected(error, "%u bytes at an address divisible by 8", joined.index_bytes);
    rq_actual(error, "%U bytes", given);
    return code;
  }
  rq_zero(index, joined.index_bytes);
  rq_gguf *out = index;
  *out = joined;
  uint64_t base = (uintptr_t)first_data - (uintptr_t)data;
  for (uint32_t i = 0; i < first->kv_count; i++) {
    rq_gguf_kv kv = rq_gguf_kvs(first)[i];
    kv.key_offset += base;
    kv.value_offset += base;
    rq_kvs_mutable(out)[i] = kv;
  }
  rq_copy(rq_kv_slots(out), (const uint8_t *)first + first->kv_hash_start,
          (size_t)(first->kv_hash_mask + 1) * 4);
  return RQ_OK;
}

/* A shard that names an architecture names that of the first. */
static bool same_architecture(const rq_gguf *joined, const uint8_t *data, const rq_gguf *shard,
                              const uint8_t *shard_data) {
  const rq_gguf_kv *ours = rq_gguf_key(joined, data, KEY_ARCHITECTURE);
  const rq_gguf_kv *theirs = rq_gguf_key(shard, shard_data, KEY_ARCHITECTURE);
  if (!theirs) return true;
  return ours && ours->type == theirs->type && ours->value_bytes == theirs->value_bytes &&
         rq_equal(data + ours->value_offset, shard_data + theirs->value_offset, (size_t)ours->value_bytes);
}

/* That this is the next shard of the same model. */
static int32_t check_shard(rq_error *error, const rq_gguf *joined, const uint8_t *data, const rq_gguf *shard,
                           const uint8_t *shard_data) {
  if (shard->split_count != joined->split_count || shard->split_tensors != joined->split_tensors) {
    int32_t code = fail_shard(error, shard, "a shard of the same model");
    rq_expected(error, "one of %u shards with %u tensors in all", joined->split_count, joined->split_tensors);
    rq_actual(error, "one of %u with %u", shard->split_count, shard->split_tensors);
    return code;
  }
  if (shard->split_no != joined->split_no) {
    int32_t code = fail_shard(error, shard, "shards in order");
    rq_expected(error, "shard %u here", joined->split_no + 1);
    rq_actual(error, "shard %u", shard->split_no + 1);
    return code;
  }
  if (shard->tensor_count > joined->split_tensors - joined->tensor_count) {
    int32_t code = fail_shard(error, shard, "as many tensors as split.tensors.count says");
    rq_actual(error, "%u or more instead of %u", joined->tensor_count + shard->tensor_count,
              joined->split_tensors);
    return code;
  }
  if (same_architecture(joined, data, shard, shard_data)) return RQ_OK;
  int32_t code = fail_shard(error, shard, "the architecture that the first shard has");
  rq_actual(error, "another one");
  return code;
}

int32_t RQ_EXPORT rq_gguf_join_add(rq_error *error, const uint8_t *data, const void *shard_index,
                                   const uint8_t *shard_data, void *index) {
  const rq_gguf *shard = shard_index;
  rq_gguf *joined = index;
  RQ_TRY(check_place(error, data, shard_data));
  RQ_TRY(check_shard(error, joined, data, shard, shard_data));
  uint64_t base = (uintptr_t)shard_data - (uintptr_t)data;
  for (uint32_t i = 0; i < shard->tensor_count; i++) {
    rq_gguf_tensor tensor = rq_gguf_tensors(shard)[i];
    tensor.name_offset += base;
    tensor.data_offset += base;
    uint32_t position = joined->tensor_count++;
    rq_tensors_mutable(joined)[position] = tensor;
    RQ_TRY(rq_enter_tensor_name(error, joined, data, position));
  }
  joined->file_bytes += shard->file_bytes;
  joined->split_no++;
  return RQ_OK;
}

int32_t RQ_EXPORT rq_gguf_join_end(rq_error *error, const uint8_t *data, void *index) {
  rq_gguf *joined = index;
  if (joined->split_no != joined->split_count || joined->tensor_count != joined->split_tensors) {
    int32_t code = rq_fail(error, RQ_E_SHARD, "the shards");
    rq_expected(error, "%u shards with %u tensors", joined->split_count, joined->split_tensors);
    rq_actual(error, "%u with %u", joined->split_no, joined->tensor_count);
    rq_hint(error, SHARDS_HINT);
    return code;
  }
  RQ_TRY(rq_layout_apply(error, joined, data));
  RQ_TRY(rq_integrity_shape(error, joined, data));
  joined->split_count = joined->joined = 1;
  joined->split_no = 0;
  return RQ_OK;
}
