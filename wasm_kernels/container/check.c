/* check.c: what `verify` does: the data of each tensor, a piece at a time so that a page stays alive,
 * and the recorded SHA-256 digests. docs/container.md says what the digests cover. */
#include "../formats/formats.h" /* the check of one row */
#include "parse.h"

enum { PIECE_BYTES = 1 << 20 }; /* a few milliseconds of work */

static void to_hex(const uint8_t *digest /* (32) */, char *text /* (64) */) {
  for (int32_t i = 0; i < 32; i++) {
    text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
    text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
  }
}

/* Compares what was hashed with the recorded text; the error's subject is `name`. */
static int32_t compare(rq_error *error, rq_sha256 *sha, const uint8_t *recorded, const char *name,
                       uint32_t name_bytes) {
  uint8_t digest[32];
  char text[RQ_DIGEST_TEXT];
  rq_sha256_final(sha, digest);
  to_hex(digest, text);
  if (rq_equal(text, recorded, RQ_DIGEST_TEXT)) return RQ_OK;
  int32_t code = rq_fail(error, RQ_E_INTEGRITY, "%.*s", (int)name_bytes, name);
  rq_expected(error, "SHA-256 %.*s", (int)RQ_DIGEST_TEXT, (const char *)recorded);
  rq_actual(error, "SHA-256 %.*s", (int)RQ_DIGEST_TEXT, text);
  rq_hint(error, "the file was changed after it was written: download or make it again");
  return code;
}

static int32_t check_padding(rq_error *error, const rq_gguf *index, const uint8_t *data,
                             const rq_gguf_tensor *tensor) {
  uint64_t mask = (uint64_t)index->alignment - 1, at = tensor->data_offset + tensor->data_bytes;
  for (uint64_t end = (at + mask) & ~mask; at < end && at < index->file_bytes; at++) {
    if (data[at] == 0) continue;
    int32_t code = rq_fail(error, RQ_E_INTEGRITY, "%.*s", (int)tensor->name_bytes,
                           (const char *)data + tensor->name_offset);
    rq_expected(error, "zeros in the padding behind the tensor");
    rq_actual(error, "another byte at offset %U", at);
    rq_hint(error, "the file was changed after it was written: download or make it again");
    return code;
  }
  return RQ_OK;
}

/* Says in which row and where in it the data is bad: rq_check_rows knows the piece, not the tensor. */
static int32_t fail_rows(rq_error *error, const uint8_t *data, const rq_gguf_tensor *tensor, uint64_t first,
                         uint64_t rows) {
  const rq_format *format = rq_format_get(tensor->format);
  uint64_t row_bytes = tensor->data_bytes / tensor->rows;
  for (uint64_t row = first; row < first + rows; row++) {
    rq_error detail;
    int32_t code =
        format->check(&detail, data + tensor->data_offset + row * row_bytes, (int32_t)tensor->width);
    if (code >= 0) continue;
    rq_fail(error, code, "%.*s", (int)tensor->name_bytes, (const char *)data + tensor->name_offset);
    rq_expected(error, "%s in row %U, %s", detail.expected, row, detail.subject);
    rq_actual(error, "%s", detail.actual);
    rq_hint(error, "the data is damaged or was not written for %s: get the file again, or quantize again",
            format->info.name);
    return code;
  }
  return error ? error->code : RQ_E_DATA; /* what rq_check_rows said of the piece as a whole */
}

/* The recorded digest of a tensor, or NULL. All strings have 64 bytes (rq_integrity_shape). */
static const uint8_t *recorded_digest(const rq_gguf *index, const uint8_t *data, int32_t position) {
  const rq_gguf_kv *list = rq_gguf_key(index, data, RQ_KEY_TENSOR_DIGESTS);
  if (!list || index->split_count > 1) return NULL; /* of a shard alone: not checked for its shape */
  return data + list->value_offset + (uint64_t)position * (8 + RQ_DIGEST_TEXT) + 8;
}

int32_t RQ_EXPORT rq_gguf_check_step(rq_error *error, const void *index, const uint8_t *data,
                                     int32_t position, rq_gguf_check *cursor) {
  const rq_gguf *gguf = index;
  if (position < 0 || (uint32_t)position >= gguf->tensor_count) {
    int32_t code = rq_fail(error, RQ_E_ARGUMENT, "position");
    rq_expected(error, "a tensor position below %u", gguf->tensor_count);
    rq_actual(error, "%d", position);
    return code;
  }
  const rq_gguf_tensor *tensor = &rq_gguf_tensors(gguf)[position];
  if (cursor->row >= tensor->rows) {
    int32_t code = rq_fail(error, RQ_E_ARGUMENT, "cursor");
    rq_expected(error, "a row below %U", tensor->rows);
    rq_actual(error, "%U", cursor->row);
    return code;
  }
  const char *name = (const char *)data + tensor->name_offset;
  const uint8_t *recorded = recorded_digest(gguf, data, position);
  if (cursor->row == 0) {
    cursor->hashing = recorded != NULL;
    rq_sha256_init(&cursor->sha);
  }
  uint64_t row_bytes = tensor->data_bytes / tensor->rows;
  uint64_t rows = PIECE_BYTES / row_bytes > 0 ? PIECE_BYTES / row_bytes : 1;
  if (rows > tensor->rows - cursor->row) rows = tensor->rows - cursor->row;
  const uint8_t *piece = data + tensor->data_offset + cursor->row * row_bytes;
  if (cursor->hashing) rq_sha256_update(&cursor->sha, piece, piece + rows * row_bytes);
  if (tensor->format != RQ_FORMAT_NONE &&
      rq_check_rows(error, tensor->format, piece, (int32_t)rows, (int32_t)tensor->width) != RQ_OK)
    return fail_rows(error, data, tensor, cursor->row, rows);
  cursor->row += rows;
  if (cursor->row < tensor->rows) return RQ_MORE;
  if (!cursor->hashing) return RQ_OK;
  RQ_TRY(compare(error, &cursor->sha, recorded, name, tensor->name_bytes));
  return gguf->joined ? RQ_OK : check_padding(error, gguf, data, tensor);
}

int32_t RQ_EXPORT rq_gguf_check_header(rq_error *error, const void *index, const uint8_t *data) {
  const rq_gguf *gguf = index;
  const rq_gguf_kv *kv = rq_gguf_key(gguf, data, RQ_KEY_HEADER_DIGEST);
  if (!kv || gguf->joined || gguf->split_count > 1) return RQ_OK;
  static const uint8_t zeros[RQ_DIGEST_TEXT + 1] =
      "0000000000000000000000000000000000000000000000000000000000000000";
  const uint8_t *digest = data + kv->value_offset;
  uint64_t end = gguf->data_start < gguf->file_bytes ? gguf->data_start : gguf->file_bytes;
  rq_sha256 sha;
  rq_sha256_init(&sha);
  rq_sha256_update(&sha, data, digest);
  rq_sha256_update(&sha, zeros, zeros + RQ_DIGEST_TEXT);
  rq_sha256_update(&sha, digest + RQ_DIGEST_TEXT, data + end);
  return compare(error, &sha, digest, RQ_KEY_HEADER_DIGEST, sizeof RQ_KEY_HEADER_DIGEST - 1);
}
