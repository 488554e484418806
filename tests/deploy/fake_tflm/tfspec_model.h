// What an export generates, in the small: the names that the example uses. Tests override some of
// the values to see errors.
#ifndef FAKE_TFSPEC_MODEL_H_
#define FAKE_TFSPEC_MODEL_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

#define TFSPEC_SAMPLE_RATE 8000
#define TFSPEC_N_FFT 256
#define TFSPEC_HOP_LENGTH 64
#define TFSPEC_N_BINS 128
#define TFSPEC_N_FRAMES 32
#define TFSPEC_INPUT_SCALE 0.003921569f
#define TFSPEC_INPUT_ZERO_POINT -128
#define TFSPEC_OUTPUT_SCALE 0.003921569f
#define TFSPEC_OUTPUT_ZERO_POINT -128

#ifndef FAKE_SCHEMA
#define FAKE_SCHEMA 3
#endif
#ifndef FAKE_OUTPUT_SCALE
#define FAKE_OUTPUT_SCALE TFSPEC_OUTPUT_SCALE
#endif
#ifndef FAKE_INVOKE_STATUS
#define FAKE_INVOKE_STATUS kTfLiteOk
#endif
#ifndef TFSPEC_OP_COUNT
#define TFSPEC_OP_COUNT 2
#endif
#ifndef TFSPEC_ARENA_SIZE
#define TFSPEC_ARENA_SIZE 8192
#endif

alignas(16) static const unsigned char g_tfspec_model[16] = {FAKE_SCHEMA};
static const unsigned int g_tfspec_model_size = sizeof(g_tfspec_model);

inline TfLiteStatus tfspec_register_ops(tflite::MicroMutableOpResolver<TFSPEC_OP_COUNT> &resolver) {
  if (g_tfspec_model_size == 0) return kTfLiteError;
  if (resolver.AddConv2D() != kTfLiteOk) return kTfLiteError;
  return resolver.AddLogistic();
}

#endif  // FAKE_TFSPEC_MODEL_H_
