// The only file that touches TensorFlow Lite Micro.

#include "tfspec_model_runner.h"

#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "tfspec_model.h"

namespace {

alignas(16) uint8_t g_arena[TFSPEC_ARENA_SIZE];
tflite::MicroInterpreter *g_interpreter = nullptr;

// int8 with the quantisation that the front end will use. Scales went through a text file, so
// the last bit may differ.
bool tensor_ok(const TfLiteTensor *tensor, float scale, int zero_point) {
  if (tensor == nullptr || tensor->type != kTfLiteInt8) return false;
  const float difference = tensor->params.scale - scale;
  const float allowed = 1e-6f * scale;
  return difference <= allowed && -difference <= allowed && tensor->params.zero_point == zero_point;
}

}  // namespace

tfspec_model_status tfspec_model_start(tfspec_model_tensors *tensors) {
  const tflite::Model *model = tflite::GetModel(g_tfspec_model);
  if (model->version() != TFLITE_SCHEMA_VERSION) return TFSPEC_MODEL_BAD_VERSION;
  static tflite::MicroMutableOpResolver<TFSPEC_OP_COUNT> resolver;
  if (tfspec_register_ops(resolver) != kTfLiteOk) return TFSPEC_MODEL_BAD_OPERATORS;
  static tflite::MicroInterpreter interpreter(model, resolver, g_arena, sizeof(g_arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) return TFSPEC_MODEL_ARENA_TOO_SMALL;
  TfLiteTensor *input = interpreter.input(0);
  TfLiteTensor *output = interpreter.output(0);
  if (!tensor_ok(input, TFSPEC_INPUT_SCALE, TFSPEC_INPUT_ZERO_POINT) ||
      !tensor_ok(output, TFSPEC_OUTPUT_SCALE, TFSPEC_OUTPUT_ZERO_POINT)) {
    return TFSPEC_MODEL_BAD_TENSORS;
  }
  tensors->input = input->data.int8;
  tensors->input_size = input->bytes;
  tensors->output = output->data.int8;
  tensors->output_size = output->bytes;
  tensors->arena_used = interpreter.arena_used_bytes();
  g_interpreter = &interpreter;
  return TFSPEC_MODEL_OK;
}

int tfspec_model_invoke(void *) {
  return g_interpreter != nullptr && g_interpreter->Invoke() == kTfLiteOk ? 0 : 1;
}
