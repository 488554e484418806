#include "tfspec_model.h"

#include <stdio.h>
#include <string.h>

static tfspec_error result_of(const char *step, LiteRtStatus status) {
  tfspec_error error;
  error.step = step;
  error.status = status;
  return error;
}

static void keep(void *payload) { (void)payload; } /* it is part of the model */

/* Only the CPU: otherwise LiteRT looks for GPU and NPU libraries, and reports each it misses. */
static LiteRtStatus create_environment(LiteRtEnvironment *environment) {
  LiteRtEnvOption options[2];
  memset(options, 0, sizeof options);
  options[0].tag = LITERT_ENV_AUTO_REGISTER_ACCELERATORS;
  options[0].any.type = LITERT_ANY_INTEGER;
  options[0].any.value.integer = LITERT_ACCELERATOR_CPU;
  options[1].tag = LITERT_ENV_MIN_LOGGER_SEVERITY;
  options[1].any.type = LITERT_ANY_INTEGER;
  options[1].any.value.integer = LITERT_LOG_ERROR;
  return LiteRtCreateEnvironment(2, options, environment);
}

static LiteRtStatus set_threads(tfspec_model *model, int threads) {
  LiteRtOpaqueOptions cpu = NULL;
  LiteRtStatus status;
  (void)snprintf(model->cpu_options, sizeof model->cpu_options, "num_threads = %d\n", threads);
  /* CPU options travel as TOML under the identifier "xnnpack" (litert_cpu_options.cc). */
  status = LiteRtCreateOpaqueOptions("xnnpack", model->cpu_options, keep, &cpu);
  return status != 0 ? status : LiteRtAddOpaqueOptions(model->options, cpu);
}

static tfspec_error compile(tfspec_model *model, const char *path, int threads) {
  LiteRtStatus status = create_environment(&model->environment);
  if (status != 0) return result_of("create the environment", status);
  status = LiteRtCreateModelFromFile(model->environment, path, &model->model);
  if (status != 0) return result_of("read the model", status);
  status = LiteRtCreateOptions(&model->options);
  if (status == 0) {
    status = LiteRtSetOptionsHardwareAccelerators(model->options, LITERT_ACCELERATOR_CPU);
  }
  if (status == 0) status = set_threads(model, threads);
  if (status != 0) return result_of("set the options", status);
  status = LiteRtCreateCompiledModel(model->environment, model->model, model->options,
                                     &model->compiled);
  return result_of("compile the model", status);
}

static LiteRtStatus make_buffer(tfspec_model *model, tfspec_end *end, LiteRtTensor tensor,
                                LiteRtTensorBufferRequirements requirements) {
  LiteRtStatus status = LiteRtGetRankedTensorType(tensor, &end->type);
  if (status != 0) return status;
  status = LiteRtCreateManagedTensorBufferFromRequirements(model->environment, &end->type,
                                                           requirements, &end->buffer);
  if (status != 0) return status;
  return LiteRtGetTensorBufferPackedSize(end->buffer, &end->bytes);
}

static LiteRtStatus make_input(tfspec_model *model, LiteRtSignature signature) {
  LiteRtTensor tensor = NULL;
  LiteRtTensorBufferRequirements needs = NULL;
  LiteRtStatus status = LiteRtGetSignatureInputName(signature, 0, &model->input.name);
  if (status == 0) status = LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor);
  if (status == 0) {
    status = LiteRtGetCompiledModelInputBufferRequirements(model->compiled, 0, 0, &needs);
  }
  return status != 0 ? status : make_buffer(model, &model->input, tensor, needs);
}

static LiteRtStatus make_output(tfspec_model *model, LiteRtSignature signature) {
  LiteRtTensor tensor = NULL;
  LiteRtTensorBufferRequirements needs = NULL;
  LiteRtStatus status = LiteRtGetSignatureOutputName(signature, 0, &model->output.name);
  if (status == 0) status = LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensor);
  if (status == 0) {
    status = LiteRtGetCompiledModelOutputBufferRequirements(model->compiled, 0, 0, &needs);
  }
  return status != 0 ? status : make_buffer(model, &model->output, tensor, needs);
}

tfspec_error tfspec_model_open(tfspec_model *model, const char *path, int threads) {
  LiteRtSignature signature = NULL;
  size_t signatures = 0, inputs = 0, outputs = 0;
  LiteRtStatus status;
  tfspec_error error;
  memset(model, 0, sizeof *model);
  error = compile(model, path, threads);
  if (error.status != 0) return error;
  status = LiteRtGetNumModelSignatures(model->model, &signatures);
  if (status == 0 && signatures != 1) return result_of("find exactly one signature", -1);
  if (status == 0) status = LiteRtGetModelSignature(model->model, 0, &signature);
  if (status == 0) status = LiteRtGetNumSignatureInputs(signature, &inputs);
  if (status == 0) status = LiteRtGetNumSignatureOutputs(signature, &outputs);
  if (status != 0) return result_of("read the signature", status);
  if (inputs != 1 || outputs != 1) return result_of("find exactly one input and output", -1);
  status = make_input(model, signature);
  if (status == 0) status = make_output(model, signature);
  return result_of("create the buffers", status);
}

tfspec_error tfspec_end_lock(tfspec_end *end, int mode, void **memory) {
  return result_of("lock a buffer", LiteRtLockTensorBuffer(end->buffer, memory, mode));
}

tfspec_error tfspec_end_unlock(tfspec_end *end) {
  return result_of("unlock a buffer", LiteRtUnlockTensorBuffer(end->buffer));
}

tfspec_error tfspec_model_write(tfspec_model *model, const void *values) {
  void *memory = NULL;
  tfspec_error error = tfspec_end_lock(&model->input, LITERT_LOCK_WRITE, &memory);
  if (error.status != 0) return error;
  memcpy(memory, values, model->input.bytes);
  return tfspec_end_unlock(&model->input);
}

tfspec_error tfspec_model_run(tfspec_model *model) {
  return result_of("run the model", LiteRtRunCompiledModel(model->compiled, 0, 1,
                                                           &model->input.buffer, 1,
                                                           &model->output.buffer));
}

tfspec_error tfspec_model_read(tfspec_model *model, void *values) {
  void *memory = NULL;
  tfspec_error error = tfspec_end_lock(&model->output, LITERT_LOCK_READ, &memory);
  if (error.status != 0) return error;
  memcpy(values, memory, model->output.bytes);
  return tfspec_end_unlock(&model->output);
}

void tfspec_model_close(tfspec_model *model) {
  if (model->input.buffer != NULL) LiteRtDestroyTensorBuffer(model->input.buffer);
  if (model->output.buffer != NULL) LiteRtDestroyTensorBuffer(model->output.buffer);
  if (model->compiled != NULL) LiteRtDestroyCompiledModel(model->compiled);
  if (model->options != NULL) LiteRtDestroyOptions(model->options);
  if (model->model != NULL) LiteRtDestroyModel(model->model);
  if (model->environment != NULL) LiteRtDestroyEnvironment(model->environment);
  memset(model, 0, sizeof *model);
}
