/* One exported model, run through LiteRT's C API: one input, one output, the CPU.
 *
 *   tfspec_model model;
 *   tfspec_error error = tfspec_model_open(&model, "model_int8.tflite", 2);
 *   if (error.status == 0) error = tfspec_model_write(&model, samples);
 *   if (error.status == 0) error = tfspec_model_run(&model);
 *   if (error.status == 0) error = tfspec_model_read(&model, result);
 *   tfspec_model_close(&model);
 *
 * Values are in the types of the tensors: float32, or integers as the card's scale and zero point
 * say. Nothing is allocated here; LiteRT allocates when a model is opened.
 */
#ifndef TFSPEC_MODEL_H
#define TFSPEC_MODEL_H

#include "litert.h"

/* What failed; `status` is LiteRT's, 0 for success, -1 for a model of another kind. */
typedef struct {
  const char *step;
  LiteRtStatus status;
} tfspec_error;

/* One end of the model. */
typedef struct {
  const char *name; /* in the signature; valid until the model is closed */
  LiteRtRankedTensorType type;
  size_t bytes;
  LiteRtTensorBuffer buffer;
} tfspec_end;

typedef struct {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  tfspec_end input;
  tfspec_end output;
  char cpu_options[32]; /* LiteRT reads it while the model is compiled */
} tfspec_model;

/* Loads and compiles a file; `threads` >= 1. Close the model also after an error. */
tfspec_error tfspec_model_open(tfspec_model *model, const char *path, int threads);

/* Copies `model->input.bytes` bytes in. */
tfspec_error tfspec_model_write(tfspec_model *model, const void *values);

/* Runs the network once. */
tfspec_error tfspec_model_run(tfspec_model *model);

/* Copies `model->output.bytes` bytes out. */
tfspec_error tfspec_model_read(tfspec_model *model, void *values);

/* Gives everything back to LiteRT. */
void tfspec_model_close(tfspec_model *model);

/* For large inputs that shall not be copied: memory of one end, until it is unlocked. */
tfspec_error tfspec_end_lock(tfspec_end *end, int mode, void **memory);
tfspec_error tfspec_end_unlock(tfspec_end *end);

#endif
