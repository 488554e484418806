// Hand-declared stand-in for TensorFlow Lite Micro, for tests only: the names, types and
// signatures that tfspec_model_runner.cc uses, as TFLM documents them, and a network that passes
// everything (mask 1). Its real sources are in no package registry.
#ifndef FAKE_TFLM_COMMON_H_
#define FAKE_TFLM_COMMON_H_

#include <stddef.h>
#include <stdint.h>

typedef enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
typedef enum { kTfLiteNoType = 0, kTfLiteFloat32 = 1, kTfLiteInt8 = 9 } TfLiteType;

typedef struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
} TfLiteQuantizationParams;

typedef union TfLitePtrUnion {
  float *f;
  int8_t *int8;
} TfLitePtrUnion;

typedef struct TfLiteTensor {
  TfLiteType type;
  TfLitePtrUnion data;
  TfLiteQuantizationParams params;
  size_t bytes;
} TfLiteTensor;

#endif  // FAKE_TFLM_COMMON_H_
