/* model.h: what the parts of the engine share: hyper-parameters, weights in place, the KV cache and
 * the buffers of one step. Everything lies in the memory the host gave, laid out once by
 * rq_model_lay_out; nothing is allocated later. */
#ifndef RQ_MODEL_H
#define RQ_MODEL_H
#include "../base/base.h"
#include "../calibrate/moment.h"
#include "../container/container.h"
#include "../formats/formats.h"
#include "../threads/pool.h"
#include "profile.h"

/* Limits of what a model may ask for; a file above one of them is refused. */
enum {
  RQ_MAX_LAYERS = 512,
  RQ_MAX_EMBEDDING = 65536,
  RQ_MAX_HEADS = 1024,
  RQ_MAX_HEAD_WIDTH = 4096,
  RQ_MAX_FF_WIDTH = 1 << 20,
  RQ_MAX_VOCAB = 1 << 22,
  RQ_MAX_CONTEXT = 1 << 24,
  RQ_MAX_BATCH = 512,
};
enum { RQ_KEY_BLOCK = 64 }; /* keys whose weighted values are summed before they join the total */

/* What an architecture differs in from the others. */
typedef struct rq_architecture {
  const char *name; /* general.architecture, and the beginning of its keys */
  bool rope_neox;   /* rotary pairs half a head apart, where ruvq.rope.neox doesn't say otherwise */
  bool head_norms;  /* every head of queries and keys goes through an RMS norm before RoPE */
  bool qkv_biases;  /* query, key and value must have biases; otherwise every matrix of a layer may */
} rq_architecture;

typedef struct rq_hyper {
  rq_model_info info;
  const rq_architecture *architecture;
  int32_t key_width, value_width; /* of one head */
  int32_t context_limit;          /* what context_tokens may be: trained length, or the sliding window */
  int32_t flags;                  /* RQ_MODEL_* */
  int32_t threads;                /* that there is scratch memory for, at least 1 */
} rq_hyper;

/* One weight matrix, where it lies in the file: y = W x + bias, and what adapters add to it. */
typedef struct rq_adapter_part rq_adapter_part;
typedef struct rq_matrix {
  const uint8_t *data; /* (rows, row_bytes), perhaps unaligned */
  const rq_format *format;
  float *bias; /* (rows), or NULL */
  int32_t rows, width, row_bytes;
  bool turned;            /* its input axis went through the file's transform */
  rq_adapter_part *parts; /* a list in the order in which adapters were applied, or NULL */
} rq_matrix;

/* What a LoRA adapter has for one matrix: scale B (A x). */
struct rq_adapter_part {
  rq_matrix a;   /* (rank, width) float32 */
  float *b;      /* (tiles of RQ_UNIT_ROWS rows, rank, RQ_UNIT_ROWS), zeros behind the last row */
  float *hidden; /* (batch, rank) A x of the step's tokens */
  rq_matrix *matrix;
  float own_scale, scale; /* alpha / rank; that times what the host asked for */
  rq_adapter_part *next;
};

enum { RQ_ADAPTER_MAGIC = 0x41515652 };

typedef struct rq_model rq_model;
typedef struct rq_adapter {
  uint32_t magic;
  int32_t count;
  rq_adapter_part *parts; /* (count) */
  rq_model *model;        /* that it was opened for */
} rq_adapter;

typedef struct rq_layer {
  float *attention_norm, *ff_norm; /* (width) */
  float *query_norm, *key_norm;    /* (key_width) of every head, or NULL */
  rq_matrix query, key, value,
      attention_out;        /* (heads * key_width, width) ... (width, heads * value_width) */
  rq_matrix gate, up, down; /* (ff, width), (ff, width), (width, ff) */
} rq_layer;

typedef struct rq_weights {
  rq_layer *layers; /* (layers) */
  rq_matrix embedding, output;
  float *output_norm; /* (width) */
  float *signs;       /* (largest input width) of the Hadamard transform, NULL without */
  float *reflections; /* of the rotation, for widths up to `rotated`; NULL without */
  int32_t rotated;
  const uint8_t *rope_factors; /* (rope_width / 2) float32 as stored, or NULL */
} rq_weights;

/* Vectors made ready to be multiplied by matrices, for every token of a batch. */
typedef struct rq_inputs {
  rq_activations *plain;  /* (batch) */
  rq_activations *turned; /* (batch) after the transform */
  float *turned_x;        /* (batch, largest width) */
  int32_t stride;         /* the largest width */
  _Atomic int32_t *left;  /* (blocks of the largest width) numbers of a block that aren't there yet */
} rq_inputs;

enum { RQ_MODEL_MAGIC = 0x4D515652 };

struct rq_model {
  uint32_t magic;
  int32_t variant;                        /* what runs, as rq_variant gives it */
  int32_t variant_alone[RQ_FORMAT_COUNT]; /* for products with a single token, by format */
  rq_pool *pool;                          /* threads that help, or NULL */
  const rq_gguf *index;
  const uint8_t *file;
  rq_hyper hyper;
  rq_weights weights;
  float *rope_cos, *rope_sin; /* (context, rope_width / 2) */
  uint8_t *keys;              /* (layers, kv_heads, context, key_width) f16 or f32 */
  uint8_t *values;            /* (layers, kv_heads, context, value_width) */
  int32_t *tokens;            /* (context) every token fed, computed or waiting */
  int32_t position;           /* tokens computed */
  int32_t fed;                /* tokens computed and waiting */
  bool all_logits;            /* keep the logits of every token of a step */
  int32_t logits_rows;        /* rows of `logits` that are valid */
  bool keep_states;           /* sum up the last states instead of computing logits */
  int32_t states;             /* tokens in the sum */
  double *state_sum;          /* (width) */
  rq_inputs inputs;
  rq_inputs gated_inputs; /* of one token: of feed-forward's last product, filled while the first ones run */
  float *x;               /* (batch, width) the residual stream */
  float *normed;          /* (batch, width) */
  float *query;           /* (batch, heads * key_width) */
  float *key;             /* (batch, kv_heads * key_width) */
  float *value;           /* (batch, kv_heads * value_width) */
  float *attended;        /* (batch, heads * value_width) */
  float *gate, *up;       /* (batch, ff_width) */
  float *branch;          /* (batch, width) what joins the residual stream */
  float *scores;          /* (min(threads, kv_heads), batch * heads / kv_heads, context) */
  float *inverses;  /* (min(threads, kv_heads), batch * heads / kv_heads) 1 / a query's sum of weights */
  float *key_block; /* (threads, RQ_KEY_BLOCK, max(key_width, value_width)) of the cache in f32 */
  float *logits;    /* (batch or 1, vocab_size) */
  uint32_t *hashes; /* (layers + 2), NULL without RQ_MODEL_HASHES */
  uint32_t *hashes_before; /* (layers + 2) as they were before the step, for a step that fails */
  float *moments;          /* collect.c; NULL: nothing is collected */
  bool moments_diagonal;
  float
      *stage_rows; /* (context, width) where the residual stream comes from and goes to, NULL: whole steps */
  int32_t stage_layer, stage_until; /* with it: the one layer that steps compute, and where in it they end */
#if defined(RQ_PROFILE)
  rq_profile profile;
#endif
};

/* architecture.c */
const rq_architecture *rq_architecture_named(const char *name, uint32_t bytes); /* NULL: not supported */
const char *rq_architecture_name(int32_t position);                             /* NULL behind the last */

/* hyper.c: reads and validates everything but the tensors. */
int32_t rq_hyper_read(rq_error *error, const rq_gguf *index, const uint8_t *file,
                      const rq_model_options *options, rq_hyper *out);
/* The key "<architecture>.<suffix>". */
typedef struct rq_key_name {
  char text[96];
} rq_key_name;
rq_key_name rq_model_key(const rq_architecture *architecture, const char *suffix);

/* weights.c: finds and checks every tensor, decodes the small ones into the arena. With a counting
 * arena everything is checked and measured, and `out->layers` stays NULL. */
int32_t rq_weights_bind(rq_error *error, const rq_gguf *index, const uint8_t *file, rq_hyper *hyper,
                        rq_arena *arena, rq_weights *out);
/* hadamard.c: marks the matrices named in ruvq.hadamard.tensors and makes what their transform needs. */
int32_t rq_weights_bind_hadamard(rq_error *error, const rq_gguf *index, const uint8_t *file, rq_hyper *hyper,
                                 rq_arena *arena, rq_weights *out);
/* The file's transform (or its inverse) of `numbers` numbers, which begin at number `start` of a vector: a
 * block of 256, the tail, or all of it. */
void rq_turn(const rq_model *model, float *x, int32_t start, int32_t numbers, bool inverse);
/* Type (`vector`: floats only), shape and size. */
int32_t rq_tensor_check(rq_error *error, const char *name, const rq_gguf_tensor *tensor, int32_t rows,
                        int32_t width, bool vector);
int32_t rq_largest_input(const rq_hyper *hyper);
/* The n-th of all matrices: embedding, output, then seven a layer. */
rq_matrix *rq_matrix_at(rq_weights *weights, int32_t n);
static inline int32_t rq_matrix_count(const rq_hyper *hyper) { return 2 + 7 * hyper->info.layers; }

/* product.c: products of matrices with the vectors of a step. */
/* Which forms of an input the matrices that read it need. */
typedef struct rq_needs {
  bool plain, plain_quantized, turned, turned_quantized;
} rq_needs;
void rq_needs_add(rq_needs *needs, const rq_matrix *matrix);
/* Makes x (tokens, width) ready in the forms needed; RQ_E_NONFINITE on NaN or infinity. */
int32_t rq_inputs_set(rq_model *model, const float *x, int32_t tokens, int32_t width, rq_needs needs);
/* The same for one token while threads compute x: whoever completes a block of 256 (or the tail) makes it
 * ready. */
typedef struct rq_inputs_job {
  rq_model *model;
  rq_inputs *inputs;
  const float *x; /* (tokens, width) */
  int32_t tokens, width;
  rq_needs needs;
  _Atomic int32_t code; /* RQ_OK, or RQ_E_NONFINITE */
} rq_inputs_job;
void rq_inputs_begin(rq_inputs_job *job, rq_model *model, rq_inputs *inputs, const float *x, int32_t tokens,
                     int32_t width, rq_needs needs);
/* Numbers [first, last) of the one token are there. */
void rq_inputs_done(rq_inputs_job *job, int32_t first, int32_t last);
/* After all numbers are there. */
static inline int32_t rq_inputs_code(const rq_inputs_job *job) {
  return atomic_load_explicit(&job->code, memory_order_relaxed);
}
/* One product: y (tokens, rows) = inputs W^T + bias. */
typedef struct rq_product {
  const rq_matrix *matrix;
  float *y;
  float *sum; /* (tokens, rows) that y is added to, or NULL */
} rq_product;
/* Products that share an input, together as one job. */
void rq_multiply(rq_model *model, const rq_inputs *inputs, const rq_product *products, int32_t count,
                 int32_t tokens);
/* A x of the adapters of these products' matrices, for the rq_multiply_rows that follow. */
void rq_adapters_begin(rq_model *model, const rq_inputs *inputs, const rq_product *products, int32_t count,
                       int32_t tokens);
/* Rows [first, last) of one product; `first` is a multiple of RQ_UNIT_ROWS. */
void rq_multiply_rows(const rq_model *model, const rq_inputs *inputs, const rq_product *product,
                      int32_t tokens, int32_t first, int32_t last);
enum { RQ_UNIT_ROWS = 16 }; /* rows of a unit of work: outputs of two threads lie in different cache lines */

/* attention.c */
void rq_rope_table(const rq_weights *weights, const rq_hyper *hyper, float *cosine, float *sine);
/* Rotates queries and keys, stores keys and values, and attends: query, key, value -> attended. `reader` is
 * told what is there, unless NULL. */
int32_t rq_attend(rq_error *error, rq_model *model, int32_t layer, int32_t tokens, rq_inputs_job *reader);

/* forward.c: computes `tokens` waiting tokens. */
int32_t rq_forward(rq_error *error, rq_model *model, int32_t tokens);

/* collect.c */
typedef enum rq_input { /* of a layer's matrices; the last is the output layer's */
                        RQ_INPUT_ATTENTION,
                        RQ_INPUT_ATTENTION_OUT,
                        RQ_INPUT_FF,
                        RQ_INPUT_DOWN,
                        RQ_INPUT_OUTPUT,
                        RQ_INPUT_RESIDUAL, /* the residual stream behind a layer */
} rq_input;
/* Adds x (tokens, width) to what is collected of an input. Whether the step ends here. */
#if defined(__wasm__)
static inline bool rq_collect(rq_model *model, rq_input input, const float *x, int32_t tokens) {
  (void)model, (void)input, (void)x, (void)tokens; /* the desktop's business */
  return false;
}
#else
bool rq_collect(rq_model *model, rq_input input, const float *x, int32_t tokens);
#endif
/* logits.c */
/* Position of the largest logit, the lower id among equals; RQ_E_NONFINITE. */
int32_t rq_find_largest(rq_error *error, const float *logits, int32_t vocab_size);
int32_t rq_check_vocab(rq_error *error, int32_t vocab_size);

/* hash.c */
uint32_t rq_hash_floats(uint32_t hash, const float *x, size_t count);

#endif
