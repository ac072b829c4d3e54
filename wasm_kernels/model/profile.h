/* profile.h: the engine's clock, in builds with RQ_PROFILE. Whoever has finished a piece of work calls
 * RQ_LAP, which books the time since the last look at the clock to an operation: so all pieces together are
 * the whole step. In the engine that ships it is nothing. */
#ifndef RQ_PROFILE_H
#define RQ_PROFILE_H

#if defined(RQ_PROFILE)
struct rq_model;
struct rq_matrix;
void rq_lap(struct rq_model *model, int32_t operation);
/* A step begins: what was before it is nobody's. */
void rq_lap_start(struct rq_model *model);
/* RQ_OP_* of a matrix's products. */
int32_t rq_operation_of(const struct rq_model *model, const struct rq_matrix *matrix);
/* Seconds on a clock that the host gives (hosts/profile_clock.c). */
double rq_clock(void);
#define RQ_LAP_START(model) rq_lap_start(model)
#define RQ_LAP(model, operation) rq_lap(model, operation)
/* Within a job, which other threads may share: only without a pool. */
#define RQ_LAP_ALONE(model, operation)            \
  do {                                            \
    if (!(model)->pool) rq_lap(model, operation); \
  } while (0)
#else
#define RQ_LAP_START(model) ((void)0)
#define RQ_LAP(model, operation) ((void)0)
#define RQ_LAP_ALONE(model, operation) ((void)0)
#endif

#endif
