/* ruvq.h: the whole C interface of the ruvq core, and its single source.
 *
 * Python's cffi declarations (py/ruvq/core/abi.py) and JavaScript's error codes
 * and struct offsets (web/abi.js) are generated from this file by
 * build/generate_abi.py; `make lint` fails when they are stale.
 *
 * Rules that keep one interface for two link targets (64-bit native library,
 * 32-bit WebAssembly): no callbacks, no 64-bit arguments, no structs by value.
 * Every argument is a 32-bit integer, a float or a pointer into the core's
 * memory; what can be larger than 4 GiB is passed as a [begin, end) pair of
 * pointers. Public structs hold no pointers, so their layout is the same on
 * both. The core owns no memory and keeps no state of its own: the host gives
 * each object its memory, and may run two models in two threads.
 *
 * Every function that returns int32_t gives >= 0 on success and one of the
 * RQ_E_* codes on failure; where it takes an rq_error the details are there.
 */
#ifndef RUVQ_H
#define RUVQ_H
#include <stdint.h>

#define RQ_ABI_VERSION 1
#define RQ_LAYOUT_VERSION 1 /* of ruvq's own formats, see docs/formats.md */

/* ---- errors: one closed set -------------------------------------------- */

enum {
  RQ_OK = 0,
  RQ_MORE = 1,               /* not a failure: more of the file is needed */
  RQ_E_ARGUMENT = -1,        /* an argument is out of its range */
  RQ_E_MEMORY = -2,          /* the memory given is too small */
  RQ_E_MAGIC = -3,           /* the file is not a GGUF file */
  RQ_E_VERSION = -4,         /* the GGUF version is not supported */
  RQ_E_TRUNCATED = -5,       /* the file ends before its contents do */
  RQ_E_LIMIT = -6,           /* a count or length is above a named limit */
  RQ_E_STRING = -7,          /* a string is not valid UTF-8 or holds a NUL */
  RQ_E_KEY = -8,             /* a metadata key is empty or appears twice */
  RQ_E_VALUE = -9,           /* a metadata value has a wrong type or range */
  RQ_E_ALIGNMENT = -10,      /* general.alignment is not a usable power of two */
  RQ_E_NAME = -11,           /* a tensor name is empty, too long or appears twice */
  RQ_E_SHAPE = -12,          /* a tensor's dimensions are unusable */
  RQ_E_TYPE = -13,           /* a tensor's type is unknown or can't be used here */
  RQ_E_OFFSET = -14,         /* tensor data is misplaced: gap, overlap, unaligned, outside */
  RQ_E_LAYOUT = -15,         /* ruvq layout metadata is missing, inconsistent or of a newer version */
  RQ_E_DATA = -16,           /* tensor data holds a forbidden value: NaN, infinity, bad block header */
  RQ_E_INTEGRITY = -17,      /* a SHA-256 differs from the one recorded */
  RQ_E_HYPERPARAMETER = -18, /* a model hyper-parameter is missing or out of range */
  RQ_E_TENSOR = -19,         /* a tensor that the model needs is missing or has another shape */
  RQ_E_ARCHITECTURE = -20,   /* the model's architecture is not supported */
  RQ_E_TOKENIZER = -21,      /* the vocabulary is inconsistent or of an unknown kind */
  RQ_E_TOKEN = -22,          /* a token id is outside the vocabulary */
  RQ_E_CONTEXT = -23,        /* the context is full */
  RQ_E_NONFINITE = -24,      /* NaN or infinity among activations or logits */
  RQ_E_SELF_TEST = -25,      /* a kernel gave a wrong result on this machine */
  RQ_E_SHARD = -26,          /* shards of a model are missing, out of order or of different models */
};

/* What went wrong, in UTF-8, each string cut to fit and NUL-terminated. */
typedef struct rq_error {
  int32_t code;
  char subject[132];  /* the key, tensor, option or place it is about */
  char expected[160]; /* what would have been right */
  char actual[160];   /* what was found */
  char hint[256];     /* what to do */
} rq_error;

/* ---- core ---------------------------------------------------------------- */

int32_t rq_abi_version(void);
/* Runs a few blocks of every format through every kernel of this build. */
int32_t rq_self_test(rq_error *error);

typedef struct rq_sha256 {
  uint32_t state[8];
  uint32_t length_low, length_high; /* bytes so far */
  uint8_t block[64];
} rq_sha256;
void rq_sha256_init(rq_sha256 *state);
void rq_sha256_update(rq_sha256 *state, const uint8_t *data, const uint8_t *data_end);
void rq_sha256_final(rq_sha256 *state, uint8_t *digest /* 32 */);

/* Present in the WebAssembly module only, where the host has no allocator of
 * its own: 16-byte aligned memory from the module's heap, 0 when there is none. */
void *rq_alloc(uint32_t bytes);
void rq_free(void *memory);
/* The module's memory never grows beyond so many bytes (default: 4 GiB); gives what it holds now. */
uint32_t rq_limit_memory(uint32_t bytes);

/* ---- formats: what a row of bytes means ---------------------------------- */

enum {
  RQ_FORMAT_F32 = 0,
  RQ_FORMAT_F16 = 1,
  RQ_FORMAT_BF16 = 2,
  RQ_FORMAT_Q8_0 = 3,
  RQ_FORMAT_PI_Q3 = 4,
  RQ_FORMAT_PI_Q2 = 5,
  RQ_FORMAT_PI_T3 = 6,
  RQ_FORMAT_PI_T2 = 7,
  RQ_FORMAT_TERNARY = 8,
  RQ_FORMAT_PI_TERNARY = 9,
  RQ_FORMAT_PI_Q3_RUVLLM = 10, /* ggml type id 40 in the namespace "ruvllm" */
  RQ_FORMAT_PI_Q2_RUVLLM = 11, /* ggml type id 41 in the namespace "ruvllm" */
  /* ggml's: read and computed with, some of them written by native builds */
  RQ_FORMAT_Q4_0 = 12,
  RQ_FORMAT_Q4_1 = 13,
  RQ_FORMAT_Q5_0 = 14,
  RQ_FORMAT_Q5_1 = 15,
  RQ_FORMAT_Q8_1 = 16,
  RQ_FORMAT_Q2_K = 17,
  RQ_FORMAT_Q3_K = 18,
  RQ_FORMAT_Q4_K = 19,
  RQ_FORMAT_Q5_K = 20,
  RQ_FORMAT_Q6_K = 21,
  RQ_FORMAT_Q8_K = 22,
  RQ_FORMAT_IQ4_NL = 23,
  RQ_FORMAT_IQ4_XS = 24,
  RQ_FORMAT_TQ1_0 = 25,
  RQ_FORMAT_TQ2_0 = 26,
  RQ_FORMAT_MXFP4 = 27,
  RQ_FORMAT_NVFP4 = 28,
  RQ_FORMAT_Q1_0 = 29,
  RQ_FORMAT_Q2_0 = 30,
  RQ_FORMAT_IQ1_S = 31,
  RQ_FORMAT_IQ1_M = 32,
  RQ_FORMAT_IQ2_XXS = 33,
  RQ_FORMAT_IQ2_XS = 34,
  RQ_FORMAT_IQ2_S = 35,
  RQ_FORMAT_IQ3_XXS = 36,
  RQ_FORMAT_IQ3_S = 37,
  /* ruvq's own, younger than the above: numbers stay */
  RQ_FORMAT_PI_X3 = 38,
  RQ_FORMAT_PI_X2 = 39,
  RQ_FORMAT_COUNT = 40,
  RQ_FORMAT_NONE = -1, /* a type that is stored and listed but not computed with */
};

typedef struct rq_format_info {
  int32_t format;        /* RQ_FORMAT_* */
  int32_t ggml_type;     /* type id in the container; RQ_GGML_I8 for ruvq's own */
  int32_t any_width;     /* 1: every width; 0: whole blocks only */
  int32_t block_weights; /* weights in a full block */
  int32_t block_bytes;   /* bytes of a full block */
  int32_t own;           /* 1: one of ruvq's own formats, described in the metadata */
  int32_t writable;      /* 1: rq_encode of this build makes it; 0: read and computed with only */
  char name[24];         /* as on the command line: "pi-t3", "q8_0" */
} rq_format_info;

/* Which implementation runs: all give the same bits. Files are written by the scalar one only. RQ_SIMD is the
 * best of this machine; the others name one, and where the machine lacks it the best below runs. */
enum {
  RQ_SIMD = 0,
  RQ_SCALAR = 1,
  RQ_SIMD128 = 2, /* SIMD128 of WebAssembly, SSE4.1, NEON */
  RQ_AVX2 = 3,
  RQ_AVX512 = 4, /* with VBMI and VNNI */
  RQ_VARIANT_COUNT = 5,
};
/* The implementation that runs where `variant` is asked for. */
int32_t rq_variant(int32_t variant);

int32_t rq_format_describe(int32_t format, rq_format_info *info);
/* Bytes of one row; RQ_E_SHAPE when the format can't hold that width. */
int32_t rq_format_row_bytes(int32_t format, int32_t width);

/* How an encoder finds its scale. */
enum {
  RQ_SCALE_DEFAULT = 0,      /* the best search the format has */
  RQ_SCALE_GIVEN = 1,        /* options.scale of every block: alpha in pi formats, else d or gamma */
  RQ_SCALE_ABSMAX = 2,       /* largest magnitude on the lowest level: -4, -2 or -1 steps */
  RQ_SCALE_RMS = 3,          /* pi-q: alpha = rms of the block (the fixed rule) */
  RQ_SCALE_ABSMEAN = 4,      /* ternary: gamma = mean magnitude (BitNet b1.58) */
  RQ_SCALE_MSE = 5,          /* least squared error; for pi-q with either sign */
  RQ_SCALE_MSE_UNSIGNED = 6, /* the same, positive scales only */
};

typedef struct rq_encode_options {
  int32_t k;          /* pi formats: divisor of pi, 2..5; 0: the default, in trellises every group's best */
  int32_t scale_rule; /* RQ_SCALE_* */
  float scale;        /* with RQ_SCALE_GIVEN */
  int32_t effort;     /* trellis: alphas tried on either side of the best, 1..247; 0: the default */
} rq_encode_options;

/* Bytes of scratch memory that rq_encode needs for this format and width. */
int32_t rq_encode_scratch(int32_t format, int32_t width);
/* Quantizes rows of finite weights. The same floats give the same bytes on every machine. */
int32_t rq_encode(rq_error *error, int32_t format, const rq_encode_options *options,
                  const float *weights,    /* (rows, width) */
                  const float *importance, /* (width) weights of the squared error, or NULL */
                  int32_t rows, int32_t width, uint8_t *out, /* (rows, row_bytes) */
                  void *scratch, void *scratch_end);
/* The same with error feedback (LDLQ): a weight is rounded with what the rounding of those before it in its
 * row did to the output, so that the error of the product is small and not that of the weights.
 * `factor` and `pivots` are rq_moment_factor's; formats with block scales only. */
int32_t rq_encode_feedback_scratch(int32_t format, int32_t width);
int32_t rq_encode_feedback(rq_error *error, int32_t format, const rq_encode_options *options,
                           const float *weights,                      /* (rows, width) */
                           const float *factor,                       /* (width, width) */
                           const float *pivots,                       /* (width) */
                           int32_t rows, int32_t width, uint8_t *out, /* (rows, row_bytes) */
                           void *scratch, void *scratch_end);

/* ---- second moments of inputs: what calibration collects ---- */

/* moment[i, j] += sum over tokens of x[t, i] * x[t, j], for j >= i, rows [first, last) of `moment`. Sums of
 * one call run over its tokens in order, so that equal calls give equal bits on any number of threads. */
int32_t rq_moment_add(rq_error *error, float *moment /* (width, width) */,
                      const float *x /* (tokens, width) */, int32_t tokens, int32_t width, int32_t first,
                      int32_t last);
/* H + damping * mean(diagonal) * I = (U + I) diag(pivots) (U + I)^T with U strictly upper triangular, in
 * place of H, of which only the upper half is read. RQ_E_DATA when H isn't positive definite. */
int32_t rq_moment_factor(rq_error *error, float *moment /* (width, width) */, float *pivots /* (width) */,
                         int32_t width, float damping, void *scratch, void *scratch_end);
int32_t rq_moment_factor_scratch(int32_t width);
/* The same for two vectors of each token: out[i, j] += sum over tokens of a[t, i] * b[t, j]; with `upper` (a
 * and b of one width) only for j >= i. */
int32_t rq_moment_cross(rq_error *error, float *out /* (a_width, b_width) */,
                        const float *a /* (tokens, a_width) */, int32_t a_width,
                        const float *b /* (tokens, b_width) */, int32_t b_width, int32_t tokens,
                        int32_t first, int32_t last, int32_t upper);
/* The sum over rows of r H r^T: H is symmetric, and its upper half and some of the other are read. */
int32_t rq_moment_energy(rq_error *error, const float *moment /* (width, width) */,
                         const float *rows /* (count, width) */, int32_t count, int32_t width,
                         double *out /* (1) */);
/* rows <- rows H^-1, with H as rq_moment_factor has factorised it. */
int32_t rq_moment_solve(rq_error *error, const float *factor /* (width, width) */,
                        const float *pivots /* (width) */, float *rows /* (count, width) */, int32_t count,
                        int32_t width, void *scratch, void *scratch_end);
int32_t rq_moment_solve_scratch(int32_t width);

int32_t rq_decode(rq_error *error, int32_t format, const uint8_t *data /* (rows, row_bytes) */, int32_t rows,
                  int32_t width, float *out /* (rows, width) */, int32_t variant);
/* Refuses bad block headers, NaN and infinity, and codes that are never written. */
int32_t rq_check_rows(rq_error *error, int32_t format, const uint8_t *data, int32_t rows, int32_t width);

/* y = W x, activations quantized to int8 per block where the format is quantized. */
int32_t rq_matvec_scratch(int32_t format, int32_t width);
int32_t rq_matvec(rq_error *error, int32_t format, const uint8_t *data /* (rows, row_bytes) */, int32_t rows,
                  int32_t width, const float *x /* (width) */, float *y /* (rows) */, void *scratch,
                  void *scratch_end, int32_t variant);

/* x <- H S x in place for each row: signs from SplitMix64(seed), blocked Walsh-Hadamard,
 * normalised; inverse != 0 gives x <- S H x, its transpose. */
int32_t rq_hadamard(rq_error *error, float *x /* (rows, width) */, int32_t rows, int32_t width,
                    uint32_t seed_low, uint32_t seed_high, int32_t inverse, int32_t variant);

/* x <- Q x in place for each row: the dense rotation of a seed, for small widths; inverse != 0: its
 * transpose. */
enum { RQ_ORTHOGONAL_MAX = 256 };
int32_t rq_orthogonal_scratch(int32_t width);
int32_t rq_orthogonal(rq_error *error, float *x /* (rows, width) */, int32_t rows, int32_t width,
                      uint32_t seed_low, uint32_t seed_high, int32_t inverse, void *scratch,
                      void *scratch_end);

typedef struct rq_comparison {
  double mse;                    /* mean squared difference */
  double snr_db;                 /* 10 log10(sum a^2 / sum (a-b)^2); +infinity when equal */
  double spectral_distortion_db; /* energy of the difference's 2-D spectrum over the original's, in dB */
  double cosine;                 /* of the two as vectors */
  double outlier_retention;      /* mean |b|/|a|, cut at 1, over the 1 % largest |a| */
} rq_comparison;
int32_t rq_compare_scratch(int32_t rows, int32_t width);
int32_t rq_compare(rq_error *error, const float *a, const float *b, int32_t rows, int32_t width,
                   rq_comparison *out, void *scratch, void *scratch_end);

/* ---- container: GGUF v3 --------------------------------------------------- */

/* Value types of GGUF metadata. */
enum {
  RQ_KV_U8 = 0,
  RQ_KV_I8 = 1,
  RQ_KV_U16 = 2,
  RQ_KV_I16 = 3,
  RQ_KV_U32 = 4,
  RQ_KV_I32 = 5,
  RQ_KV_F32 = 6,
  RQ_KV_BOOL = 7,
  RQ_KV_STRING = 8,
  RQ_KV_ARRAY = 9,
  RQ_KV_U64 = 10,
  RQ_KV_I64 = 11,
  RQ_KV_F64 = 12,
};
enum { RQ_GGML_I8 = 24 };

/* A tensor type of the container, computed with or not. */
typedef struct rq_ggml_type_info {
  int32_t ggml_type;
  int32_t format;        /* RQ_FORMAT_* outside every namespace, or RQ_FORMAT_NONE */
  int32_t block_weights; /* 0: removed from ggml, refused in files */
  int32_t block_bytes;
  char name[24]; /* as ggml writes it: "Q4_K" */
} rq_ggml_type_info;
/* RQ_E_TYPE for an id that was never assigned. */
int32_t rq_ggml_type_describe(int32_t ggml_type, rq_ggml_type_info *info);

/* Limits of what a file may hold. */
enum {
  RQ_MAX_KEYS = 65536,
  RQ_MAX_TENSORS = 65536,
  RQ_MAX_KEY_BYTES = 4096,
  RQ_MAX_STRING_BYTES = 16777216,
  RQ_MAX_ARRAY_COUNT = 16777216,
  RQ_MAX_NAME_BYTES = 127,
  RQ_MAX_DIMS = 4,
  RQ_MAX_ALIGNMENT = 65536,
  RQ_MAX_SHARDS = 1024,
};

/* One key-value pair. Offsets are from the start of the file. */
typedef struct rq_gguf_kv {
  uint64_t key_offset;
  uint64_t value_offset; /* strings: the first byte of text; arrays: the first element */
  uint64_t value_bytes;  /* strings: of the text; arrays: of all elements as stored */
  uint64_t count;        /* arrays: elements; otherwise 1 */
  uint32_t key_bytes;
  uint32_t type;         /* RQ_KV_* */
  uint32_t element_type; /* of an array, otherwise equal to type */
  uint32_t reserved;
} rq_gguf_kv;

typedef struct rq_gguf_tensor {
  uint64_t name_offset;
  uint64_t dims[4];     /* as stored, innermost first, 1 beyond n_dims */
  uint64_t data_offset; /* from the start of the file */
  uint64_t data_bytes;
  uint32_t name_bytes;
  uint32_t n_dims;
  int32_t ggml_type;
  int32_t format; /* RQ_FORMAT_* after ruvq's metadata is read, or RQ_FORMAT_NONE */
  uint64_t width; /* weights in a row: dims[0], or what ruvq.tensor.widths says */
  uint64_t rows;  /* product of the other dimensions */
} rq_gguf_tensor;

/* Lies at the start of the memory given to rq_gguf_parse; offsets from its own start. */
typedef struct rq_gguf {
  uint32_t version;
  uint32_t alignment;
  uint32_t layout_version; /* 0: none of ruvq's own formats inside */
  uint32_t kv_count;
  uint32_t tensor_count;
  uint32_t kv_start;      /* offset of rq_gguf_kv[kv_count] */
  uint32_t tensor_start;  /* offset of rq_gguf_tensor[tensor_count] */
  uint32_t kv_hash_start; /* offset of the hash tables by key and by tensor name */
  uint32_t tensor_hash_start;
  uint32_t kv_hash_mask;
  uint32_t tensor_hash_mask;
  uint32_t index_bytes;   /* bytes of this index in all */
  uint32_t split_count;   /* files that the model is split into, this one among them; 1: it is whole */
  uint32_t split_no;      /* which of them this is, from 0 */
  uint32_t split_tensors; /* tensors in all of them */
  uint32_t joined;        /* 1: the index of several files, made by rq_gguf_join_end */
  uint64_t header_bytes;  /* header, metadata and tensor infos, before padding */
  uint64_t data_start;    /* offset of the data section from the start of the file */
  uint64_t file_bytes;
} rq_gguf;

/* Validates the header of a GGUF file and indexes it: the one parser behind every host.
 * [data, present_end) is what is there, [data, file_end) the whole file's extent, so that a header
 * can be checked while the rest downloads (RQ_MORE: give more). Needs at most
 * rq_gguf_index_bytes() of memory; the index refers to `data` by offsets only. */
int32_t rq_gguf_index_bytes(rq_error *error, const uint8_t *data, const uint8_t *present_end,
                            const uint8_t *file_end, uint64_t *bytes);
int32_t rq_gguf_parse(rq_error *error, const uint8_t *data, const uint8_t *present_end,
                      const uint8_t *file_end, void *index, void *index_end);
/* A model in several files (llama.cpp's split.* keys): each is parsed by itself, and the indexes are joined
 * in order, the first file's too. The offsets of the joined index are from `data`, the lowest address of all
 * files, which may lie anywhere above it; nothing is copied, and the files' own indexes aren't needed
 * afterwards. Refuses what is missing, out of order, there twice or of another model (RQ_E_SHARD). */
int32_t rq_gguf_join_bytes(rq_error *error, const void *first_index, uint64_t *bytes);
int32_t rq_gguf_join_begin(rq_error *error, const uint8_t *data, const void *first_index,
                           const uint8_t *first_data, void *index, void *index_end);
int32_t rq_gguf_join_add(rq_error *error, const uint8_t *data, const void *shard_index,
                         const uint8_t *shard_data, void *index);
int32_t rq_gguf_join_end(rq_error *error, const uint8_t *data, void *index);
/* Position of a key or tensor, or RQ_E_KEY / RQ_E_TENSOR. */
int32_t rq_gguf_find_key(const void *index, const uint8_t *data, const uint8_t *key, int32_t key_bytes);
int32_t rq_gguf_find_tensor(const void *index, const uint8_t *data, const uint8_t *name, int32_t name_bytes);
/* Checks the data of tensor `position` a piece at a time: bad headers, NaN, infinity, and SHA-256 where
 * the metadata records one. `cursor` is {0,0} at first; returns RQ_MORE until done. */
typedef struct rq_gguf_check {
  uint64_t row; /* next row */
  uint32_t hashing;
  uint32_t reserved;
  rq_sha256 sha;
} rq_gguf_check;
int32_t rq_gguf_check_step(rq_error *error, const void *index, const uint8_t *data, int32_t position,
                           rq_gguf_check *cursor);
/* Compares the SHA-256 of the header with the recorded one; RQ_OK also where none is recorded, and for
 * shards, whose headers are no longer the one that was digested. */
int32_t rq_gguf_check_header(rq_error *error, const void *index, const uint8_t *data);

/* ---- tokenizer ------------------------------------------------------------ */

enum { RQ_TOKENIZER_SPM = 1, RQ_TOKENIZER_BPE = 2 };
enum {
  RQ_TOKENIZE_SPECIAL = 1,       /* add BOS (and EOS) as the file says */
  RQ_TOKENIZE_PARSE_SPECIAL = 2, /* special tokens written out in the text become their ids */
};
typedef struct rq_tokenizer_info {
  int32_t kind; /* RQ_TOKENIZER_* */
  int32_t vocab_size;
  int32_t bos, eos, eot, unknown, padding; /* ids, -1: none */
  int32_t add_bos, add_eos, add_space_prefix;
} rq_tokenizer_info;

int32_t rq_tokenizer_measure(rq_error *error, const void *index, const uint8_t *data, uint64_t *bytes);
/* `data` must stay where it is as long as the tokenizer is used. */
int32_t rq_tokenizer_open(rq_error *error, const void *index, const uint8_t *data, void *tokenizer,
                          void *tokenizer_end);
int32_t rq_tokenizer_describe(const void *tokenizer, rq_tokenizer_info *info);
/* Bytes of scratch that encoding this many bytes of text needs; RQ_E_LIMIT above 16 MiB of text. */
int32_t rq_tokenize_scratch(int32_t text_bytes);
/* Text (UTF-8; invalid bytes are taken as U+FFFD) to ids; the number of ids, RQ_E_MEMORY when
 * `ids` is too small. 4 * text_bytes + 5 ids always suffice (bytes that are no UTF-8, or characters without
 * a token, can each become several); for ordinary text text_bytes + 3 do. */
int32_t rq_tokenize(rq_error *error, const void *tokenizer, const uint8_t *text, int32_t text_bytes,
                    int32_t flags, int32_t *ids, int32_t ids_capacity, void *scratch, void *scratch_end);
/* The bytes of one token as it stands in running text; their number. Characters may be split
 * between tokens. Special tokens give 0 bytes unless `special` is set. RQ_E_MEMORY: too small. */
int32_t rq_detokenize(rq_error *error, const void *tokenizer, int32_t id, int32_t special, uint8_t *out,
                      int32_t out_capacity);

/* ---- model ---------------------------------------------------------------- */

enum {
  RQ_MODEL_KV_F32 = 1,     /* keys and values in f32 instead of f16 */
  RQ_MODEL_ALL_LOGITS = 2, /* keep the logits of every token of a step, not only of the last */
  RQ_MODEL_HASHES = 4,     /* keep a hash of the activations after every layer */
  RQ_MODEL_SCALAR = 8,     /* scalar kernels only: the reference */
  RQ_MODEL_SIMD128 = 256,  /* nothing wider than 128 bits, for comparison */
  RQ_MODEL_AVX2 = 512,     /* nothing wider than AVX2 */
};
typedef struct rq_model_options {
  int32_t context_tokens; /* 0: what the file says, at most RQ_DEFAULT_CONTEXT */
  int32_t batch_tokens;   /* most tokens of one step; 0: the default */
  int32_t flags;          /* RQ_MODEL_* */
  int32_t threads;        /* most that will compute (rq_model_use_pool); 0: one */
} rq_model_options;
enum { RQ_DEFAULT_CONTEXT = 4096, RQ_DEFAULT_BATCH = 16 };

typedef struct rq_model_info {
  int32_t vocab_size, width, layers, heads, kv_heads, head_width, ff_width;
  int32_t context_trained, context_tokens, batch_tokens;
  int32_t rope_width, rope_neox, tied_output, hadamard_tensors;
  float rope_base, rope_scale, rms_epsilon;
  int32_t reserved;
  uint64_t weight_bytes; /* tensor data in the file */
  uint64_t kv_bytes;
  uint64_t memory_bytes; /* of the memory given to rq_model_open, KV cache included */
  uint64_t parameters;
} rq_model_info;

int32_t rq_model_measure(rq_error *error, const void *index, const uint8_t *data,
                         const rq_model_options *options, uint64_t *bytes);
/* `index` and `data` must stay where they are as long as the model is used. */
int32_t rq_model_open(rq_error *error, const void *index, const uint8_t *data,
                      const rq_model_options *options, void *model, void *model_end);
int32_t rq_model_describe(const void *model, rq_model_info *info);
/* Appends tokens to what is to be computed; RQ_E_CONTEXT when they don't fit. */
int32_t rq_model_feed(rq_error *error, void *model, const int32_t *tokens, int32_t count);
/* Computes up to batch_tokens of the tokens fed; returns how many still wait. */
int32_t rq_model_step(rq_error *error, void *model);
/* Whether the steps that follow keep all logits; `all` needs RQ_MODEL_ALL_LOGITS at open, and it is on then.
 */
int32_t rq_model_keep_logits(rq_error *error, void *model, int32_t all);
/* While `on`, steps compute no logits; instead the states behind the last norm are summed up, from zero on,
 * for rq_model_embedding: their mean over the tokens, of length 1 with `normalize`. */
int32_t rq_model_keep_states(rq_error *error, void *model, int32_t on);
int32_t rq_model_embedding(rq_error *error, void *model, int32_t normalize, float *out /* (width) */);
/* Tokens of the last step whose logits are kept, and the logits: (tokens, vocab_size). */
int32_t rq_model_logits_rows(const void *model);
float *rq_model_logits(void *model);
int32_t rq_model_position(const void *model);
/* Forgets all tokens from `position` on, waiting ones too (and all hashes when 0). */
int32_t rq_model_truncate(rq_error *error, void *model, int32_t position);
/* (layers + 2): after the embedding, after each layer, of the logits; over all tokens so far. */
const uint32_t *rq_model_hashes(const void *model);

/* Calibration, in the native library only. From now on a step computes one layer: the residual stream of a
 * token comes from the row of `rows` (context, width) at its position, for layer 0 from the embedding, and
 * goes back there. `until` ends the step earlier: at the layer's input 0 (of query, key, value), 1 (of
 * attention's output), 2 (of gate, up) or 3 (of down); 5: not. Layer `layers` is the output matrix, whose
 * input is 4. Unless `moments` is NULL, the second moments of the inputs on the way are added to it, one
 * after the other: each (width, width), upper half, or with `diagonal` (width); rq_model_moments says how
 * many floats. `rows` NULL: whole steps again. */
int32_t rq_model_stage(rq_error *error, void *model, float *rows, int32_t layer, int32_t until,
                       float *moments, int32_t diagonal);
int32_t rq_model_moments(const void *model, int32_t layer, int32_t diagonal, uint64_t *count);
/* Input 0 to 4 of the last step's layer (tokens of the step, its width), 5: the residual stream where the
 * step ended. Valid until the next step. */
const float *rq_model_tap(const void *model, int32_t input);

/* ---- adapters --------------------------------------------------------------
 * LoRA adapters beside a model: y = W x + scale alpha / rank B (A x), from GGUF files in llama.cpp's layout
 * (general.type "adapter", adapter.type "lora", tensors NAME.lora_a and NAME.lora_b). */

/* Checks an adapter against an open model: kind, architecture, names, shapes (RQ_E_HYPERPARAMETER,
 * RQ_E_TENSOR, RQ_E_TYPE); the bytes that it will need. */
int32_t rq_adapter_measure(rq_error *error, const void *index, const uint8_t *data, void *model,
                           uint64_t *bytes);
/* The same, and decodes it into `memory`: neither index nor data are needed afterwards. RQ_E_DATA on NaN. */
int32_t rq_adapter_open(rq_error *error, const void *index, const uint8_t *data, void *model, void *memory,
                        void *memory_end);
/* From now on the model computes with it, behind those that were applied before, or with another scale; the
 * model forgets all tokens. Any number of adapters may be there at once: their products are added. */
int32_t rq_adapter_apply(rq_error *error, void *adapter, float scale);
/* The model computes without it, and forgets all tokens; to be called before its memory is given back. */
int32_t rq_adapter_remove(rq_error *error, void *adapter);

/* ---- threads ----------------------------------------------------------------
 * The host brings the threads: each calls rq_pool_work on its own stack, which returns when the pool is
 * closed. The thread that steps the model is the first of `threads` and waits for no worker that hasn't
 * begun: any number, including none, computes the same bits. One model steps with a pool at a time. */

enum {
  RQ_MAX_THREADS = 64,
  RQ_THREAD_STACK = 262144, /* bytes of stack that a worker needs */
};
enum {
  RQ_POOL_SPIN = 1,       /* the owner may not sleep: a page's main thread */
  RQ_POOL_SMALL_JOBS = 2, /* split even what is too small to gain by it: for tests */
};
int32_t rq_pool_bytes(void);
/* `pool` is 64-byte aligned and stays where it is until all workers are back. */
int32_t rq_pool_init(rq_error *error, void *pool, void *pool_end, int32_t threads, int32_t flags);
/* A worker's whole life; RQ_E_ARGUMENT when the pool has all its threads. */
int32_t rq_pool_work(void *pool);
/* How many workers are there now. */
int32_t rq_pool_workers(const void *pool);
/* Jobs that the owner has shared out so far, modulo 2^32. */
uint32_t rq_pool_jobs(const void *pool);
/* Shares out `jobs` jobs of two empty units for each thread: what sharing alone costs. For the owner. */
int32_t rq_pool_exercise(void *pool, int32_t jobs);
/* Sends the workers home. No model may use the pool any more. */
int32_t rq_pool_close(void *pool);
/* The pool's threads compute the steps that follow; NULL: the caller alone. The model must have been opened
 * for that many. */
int32_t rq_model_use_pool(rq_error *error, void *model, void *pool);
/* Present in the native library only. Starts threads - 1 workers, or as many as the system gives; their
 * number. rq_threads_stop closes the pool and waits until they have ended. */
int32_t rq_threads_start(rq_error *error, void *pool);
int32_t rq_threads_stop(void *pool);

/* ---- profile: where a step's time goes ---------------------------------------
 * Present in builds with RQ_PROFILE only (`make profile`); the engine that ships holds nothing of it. */

enum {
  RQ_OP_EMBEDDING = 0,
  RQ_OP_NORM = 1,        /* RMS norms, of heads too, and the residual stream's sums */
  RQ_OP_ACTIVATIONS = 2, /* int8 activations */
  RQ_OP_HADAMARD = 3,
  RQ_OP_QUERY = 4, /* products by the role of their matrix, up to RQ_OP_OUTPUT */
  RQ_OP_KEY = 5,
  RQ_OP_VALUE = 6,
  RQ_OP_ATTENTION_OUT = 7,
  RQ_OP_GATE = 8,
  RQ_OP_UP = 9,
  RQ_OP_DOWN = 10,
  RQ_OP_OUTPUT = 11,
  RQ_OP_ROPE = 12,      /* and storing keys and values */
  RQ_OP_ATTENTION = 13, /* scores, their softmax, sums of values */
  RQ_OP_SWIGLU = 14,
  RQ_OP_REST = 15, /* checks of finite numbers, hashes, entering and leaving */
  RQ_OP_COUNT = 16,
};
typedef struct rq_profile {
  double since;                /* the last look at the clock */
  double seconds[RQ_OP_COUNT]; /* of the thread that steps the model */
} rq_profile;
/* The times of all steps since the model was opened or the profile last reset. */
int32_t rq_model_profile(const void *model, rq_profile *profile);
int32_t rq_model_profile_reset(void *model);
/* The product of one matrix of `layer` with one vector, as often as `repeats` says, but with its first rows
 * again and again instead of all: as many products with weights that stay in the nearest cache. */
int32_t rq_model_profile_cached(rq_error *error, void *model, int32_t layer, int32_t operation,
                                int32_t repeats);

/* ---- sampler --------------------------------------------------------------- */

/* How a token is drawn, in this order: temperature, typical_p, top_k, top_p, min_p; or, with mirostat_tau
 * above 0, temperature and Mirostat 2 alone. The penalties are applied by rq_adjust_logits. */
typedef struct rq_sampling {
  float temperature; /* 0: greedy, ties to the lower id */
  float typical_p;   /* 1: off; share of the tokens whose surprise is nearest to the expected one */
  int32_t top_k;     /* 0: off */
  float top_p;       /* 1: off */
  float min_p;       /* 0: off */
  float mirostat_tau, mirostat_eta; /* surprise in bits that is aimed at, 0: off; how fast it is followed */
  float repeat_penalty;    /* 1: off; logits of tokens seen lately are divided by it (multiplied below 0) */
  float presence_penalty;  /* 0: off; taken from the logits of tokens seen lately */
  float frequency_penalty; /* 0: off; the same for each time */
} rq_sampling;
typedef struct rq_sampler {
  uint32_t state_low, state_high; /* SplitMix64 */
  rq_sampling how;
  float mirostat_mu; /* bits of surprise allowed now */
} rq_sampler;
int32_t rq_sampler_init(rq_error *error, rq_sampler *sampler, uint32_t seed_low, uint32_t seed_high,
                        const rq_sampling *how);
int32_t rq_sample_scratch(int32_t vocab_size);
/* A token id drawn from the logits. */
int32_t rq_sample(rq_error *error, rq_sampler *sampler, const float *logits, int32_t vocab_size,
                  void *scratch, void *scratch_end);

typedef struct rq_logit_bias {
  int32_t token;
  float bias; /* added to the logit; -infinity: never this token */
} rq_logit_bias;
enum { RQ_MAX_RECENT = 4096, RQ_MAX_TOP = 256 };
/* out <- logits + biases, then the sampler's penalties for the tokens of `recent`. */
int32_t rq_adjust_logits(rq_error *error, const rq_sampler *sampler, const float *logits, int32_t vocab_size,
                         const rq_logit_bias *biases, int32_t bias_count, const int32_t *recent,
                         int32_t recent_count, /* at most RQ_MAX_RECENT */
                         float *out /* (vocab_size) */);
/* Natural logarithm of the softmax at `token`. */
int32_t rq_log_probability(rq_error *error, const float *logits, int32_t vocab_size, int32_t token,
                           float *out);
/* The `count` likeliest tokens, the best first, ties to the lower id, with their log-probabilities. */
int32_t rq_top_log_probabilities(rq_error *error, const float *logits, int32_t vocab_size,
                                 int32_t count /* at most RQ_MAX_TOP */, int32_t *tokens, float *out);

#endif
