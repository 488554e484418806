/**
 * @file tfspec_model_runner.h
 * Runs the exported model with TensorFlow Lite Micro, behind four C names.
 */
#ifndef TFSPEC_MODEL_RUNNER_H_
#define TFSPEC_MODEL_RUNNER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Why a model could not be started; 0 is success. */
typedef enum {
  TFSPEC_MODEL_OK = 0,
  TFSPEC_MODEL_BAD_VERSION,    /**< The file's schema is not the one TFLM was built with. */
  TFSPEC_MODEL_BAD_OPERATORS,  /**< An operator could not be registered. */
  TFSPEC_MODEL_ARENA_TOO_SMALL, /**< AllocateTensors failed; usually TFSPEC_ARENA_SIZE. */
  TFSPEC_MODEL_BAD_TENSORS     /**< Input or output differ from tfspec_model.h. */
} tfspec_model_status;

/** The tensors of a started model; they live in its arena. */
typedef struct {
  int8_t *input;
  size_t input_size; /**< Bytes. */
  const int8_t *output;
  size_t output_size;
  size_t arena_used; /**< Bytes of TFSPEC_ARENA_SIZE in use. */
} tfspec_model_tensors;

/** Starts the model of tfspec_model.h; call it once. */
tfspec_model_status tfspec_model_start(tfspec_model_tensors *tensors);

/** Runs the model on its input tensor; fits tfspec_invoke. 0 for success; `context` is unused. */
int tfspec_model_invoke(void *context);

#ifdef __cplusplus
}
#endif

#endif /* TFSPEC_MODEL_RUNNER_H_ */
