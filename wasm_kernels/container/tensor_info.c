/* tensor_info.c: one tensor's entry in a GGUF header: name, dimensions, type and place, all checked
 * in 64-bit arithmetic that can't wrap, so that a 32-bit host refuses what a 64-bit one refuses. */
#include "../formats/formats.h" /* which ggml types ruvq computes with */
#include "parse.h"

/* Of one tensor: more than any file has, and few enough that bytes never wrap in 64 bits. */
#define MOST_BLOCKS (1ull << 48)

static int32_t fail_tensor(rq_reader *reader, const rq_gguf_tensor *tensor, int32_t code) {
  return rq_fail(reader->error, code, "%.*s", (int)tensor->name_bytes,
                 (const char *)reader->data + tensor->name_offset);
}

int32_t rq_enter_tensor_name(rq_error *error, rq_gguf *index, const uint8_t *data, uint32_t position) {
  uint32_t *slots = rq_tensor_slots(index);
  const rq_gguf_tensor *tensors = rq_gguf_tensors(index), *tensor = &tensors[position];
  const uint8_t *name = data + tensor->name_offset;
  uint32_t slot = rq_name_hash(name, tensor->name_bytes) & index->tensor_hash_mask;
  for (int32_t probe = 0; probe < RQ_MAX_PROBES; probe++, slot = (slot + 1) & index->tensor_hash_mask) {
    if (slots[slot] == 0) {
      slots[slot] = position + 1;
      return RQ_OK;
    }
    const rq_gguf_tensor *other = &tensors[slots[slot] - 1];
    if (other->name_bytes == tensor->name_bytes &&
        rq_equal(data + other->name_offset, name, tensor->name_bytes)) {
      int32_t code = rq_fail(error, RQ_E_NAME, "%.*s", (int)tensor->name_bytes, (const char *)name);
      rq_expected(error, "every tensor name once");
      rq_actual(error, "tensors %u and %u both have this name", slots[slot] - 1, position);
      return code;
    }
  }
  int32_t code = rq_fail(error, RQ_E_LIMIT, "%.*s", (int)tensor->name_bytes, (const char *)name);
  rq_expected(error, "tensor names that hash apart");
  rq_actual(error, "%d names made to collide", (int32_t)RQ_MAX_PROBES);
  return code;
}

static int32_t read_name(rq_reader *reader, rq_gguf *index, uint32_t position) {
  rq_gguf_tensor *tensor = &rq_tensors_mutable(index)[position];
  uint64_t bytes;
  RQ_TRY(rq_reader_u64(reader, &bytes, "the length of a tensor name"));
  if (bytes == 0 || bytes > RQ_MAX_NAME_BYTES) {
    int32_t code = rq_fail(reader->error, RQ_E_NAME, "tensor %u", position);
    rq_expected(reader->error, "a name of 1 to %d bytes", (int32_t)RQ_MAX_NAME_BYTES);
    rq_actual(reader->error, "%U bytes", bytes);
    return code;
  }
  RQ_TRY(rq_reader_need(reader, bytes, "a tensor name"));
  tensor->name_offset = reader->at;
  tensor->name_bytes = (uint32_t)bytes;
  if (!rq_text_valid(reader->data + reader->at, bytes)) {
    int32_t code = rq_fail(reader->error, RQ_E_STRING, "tensor %u", position);
    rq_expected(reader->error, "a name in UTF-8 without NUL");
    rq_actual(reader->error, "other bytes at offset %U", reader->at);
    return code;
  }
  reader->at += bytes;
  return rq_enter_tensor_name(reader->error, index, reader->data, position);
}

/* Dimensions, and that their product is a number of weights at all (below 2^63). */
static int32_t read_dims(rq_reader *reader, rq_gguf_tensor *tensor) {
  RQ_TRY(rq_reader_u32(reader, &tensor->n_dims, "the number of dimensions of a tensor"));
  if (tensor->n_dims > RQ_MAX_DIMS) {
    int32_t code = fail_tensor(reader, tensor, RQ_E_SHAPE);
    rq_expected(reader->error, "at most %d dimensions", (int32_t)RQ_MAX_DIMS);
    rq_actual(reader->error, "%u dimensions", tensor->n_dims);
    return code;
  }
  uint64_t left = INT64_MAX; /* the product so far may still grow by this factor */
  for (uint32_t i = 0; i < RQ_MAX_DIMS; i++) {
    tensor->dims[i] = 1;
    if (i >= tensor->n_dims) continue;
    RQ_TRY(rq_reader_u64(reader, &tensor->dims[i], "a dimension of a tensor"));
    if (tensor->dims[i] == 0 || tensor->dims[i] > left) {
      int32_t code = fail_tensor(reader, tensor, RQ_E_SHAPE);
      rq_expected(reader->error, "dimensions of at least 1 whose product is below 2^63");
      rq_actual(reader->error, "%U as dimension %u", tensor->dims[i], i);
      return code;
    }
    left /= tensor->dims[i];
  }
  tensor->width = tensor->dims[0];
  tensor->rows = tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
  return RQ_OK;
}

static int32_t fail_type(rq_reader *reader, const rq_gguf_tensor *tensor, uint32_t type) {
  const rq_ggml_type *known = rq_ggml_type_get(type);
  int32_t code = fail_tensor(reader, tensor, RQ_E_TYPE);
  rq_expected(reader->error, "a ggml type id up to %d that is in use", (int32_t)RQ_GGML_TYPE_COUNT - 1);
  if (known) {
    rq_actual(reader->error, "type %u (%s), which ggml removed", type, known->name);
    rq_hint(reader->error, "convert the model again with a current tool");
  } else {
    rq_actual(reader->error, "type %d", (int32_t)type);
    rq_hint(reader->error, "the file is damaged, or of a newer ggml than this version of ruvq knows");
  }
  return code;
}

/* Type and size in bytes. */
static int32_t read_type(rq_reader *reader, rq_gguf_tensor *tensor, bool ruvllm_types) {
  uint32_t type;
  RQ_TRY(rq_reader_u32(reader, &type, "the type of a tensor"));
  const rq_ggml_type *known = rq_ggml_type_get(type);
  if (!known || known->block_weights == 0) return fail_type(reader, tensor, type);
  uint64_t block_weights = known->block_weights, block_bytes = known->block_bytes;
  tensor->ggml_type = (int32_t)type;
  tensor->format = rq_format_of_ggml((int32_t)type);
  if (ruvllm_types && (type == RQ_GGML_NVFP4 || type == RQ_GGML_Q1_0)) {
    tensor->format = type == RQ_GGML_NVFP4 ? RQ_FORMAT_PI_Q3_RUVLLM : RQ_FORMAT_PI_Q2_RUVLLM;
    block_weights = (uint64_t)rq_format_get(tensor->format)->info.block_weights;
    block_bytes = (uint64_t)rq_format_get(tensor->format)->info.block_bytes;
  }
  if (tensor->width % block_weights != 0) {
    int32_t code = fail_tensor(reader, tensor, RQ_E_SHAPE);
    rq_expected(reader->error, "rows of whole blocks of %U weights", block_weights);
    rq_actual(reader->error, "rows of %U", tensor->width);
    return code;
  }
  uint64_t blocks = tensor->width / block_weights * tensor->rows; /* at most the weights: below 2^63 */
  if (blocks > MOST_BLOCKS) {
    int32_t code = fail_tensor(reader, tensor, RQ_E_SHAPE);
    rq_expected(reader->error, "at most %U blocks", (uint64_t)MOST_BLOCKS);
    rq_actual(reader->error, "%U blocks of %U bytes", blocks, block_bytes);
    return code;
  }
  tensor->data_bytes = blocks * block_bytes;
  if (tensor->width > RQ_MAX_WIDTH || tensor->rows > INT32_MAX) tensor->format = RQ_FORMAT_NONE;
  return RQ_OK;
}

int32_t rq_parse_tensor(rq_reader *reader, rq_gguf *index, uint32_t position, bool ruvllm_types) {
  rq_gguf_tensor *tensor = &rq_tensors_mutable(index)[position];
  RQ_TRY(read_name(reader, index, position));
  RQ_TRY(read_dims(reader, tensor));
  RQ_TRY(read_type(reader, tensor, ruvllm_types));
  /* from the start of the data section; rq_place_tensors makes it one from the start of the file */
  return rq_reader_u64(reader, &tensor->data_offset, "the offset of a tensor");
}

/* Data begins where the one before ends, rounded up: no gap, no overlap, nothing outside. */
int32_t rq_place_tensors(rq_reader *reader, rq_gguf *index) {
  uint64_t mask = (uint64_t)index->alignment - 1;
  uint64_t end = index->header_bytes; /* of what the file must hold so far */
  for (uint32_t i = 0; i < index->tensor_count; i++) {
    rq_gguf_tensor *tensor = &rq_tensors_mutable(index)[i];
    uint64_t start = (end + mask) & ~mask; /* end <= file size, so far below 2^63 */
    if (i == 0) start = index->data_start;
    if (tensor->data_offset != start - index->data_start) {
      int32_t code = fail_tensor(reader, tensor, RQ_E_OFFSET);
      rq_expected(reader->error, "offset %U, where the tensor before it ends (aligned to %u)",
                  start - index->data_start, index->alignment);
      rq_actual(reader->error, "offset %U", tensor->data_offset);
      rq_hint(reader->error, "tensor data must follow in order, without gap or overlap");
      return code;
    }
    if (start > reader->file || tensor->data_bytes > reader->file - start) {
      int32_t code = fail_tensor(reader, tensor, RQ_E_TRUNCATED);
      rq_expected(reader->error, "%U bytes of data at offset %U of the file", tensor->data_bytes, start);
      rq_actual(reader->error, "the file ends after %U bytes", reader->file);
      rq_hint(reader->error, "the file was cut short or is damaged: download or copy it again");
      return code;
    }
    tensor->data_offset = start;
    end = start + tensor->data_bytes;
  }
  if (reader->file > ((end + mask) & ~mask)) {
    int32_t code = rq_fail(reader->error, RQ_E_OFFSET, "the end of the file");
    rq_expected(reader->error, "nothing behind the padding of the last tensor, at %U", (end + mask) & ~mask);
    rq_actual(reader->error, "%U bytes in the file", reader->file);
    rq_hint(reader->error, "something was appended to the file, or its tensor list is damaged");
    return code;
  }
  return RQ_OK;
}
