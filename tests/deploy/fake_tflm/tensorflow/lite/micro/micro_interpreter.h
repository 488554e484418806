// Stand-in, see ../c/common.h. The arena holds the input, then the output.
#ifndef FAKE_TFLM_INTERPRETER_H_
#define FAKE_TFLM_INTERPRETER_H_

#include <string.h>

#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "tfspec_model.h"

#define TFLITE_SCHEMA_VERSION (3)

namespace tflite {

class MicroInterpreter {
 public:
  MicroInterpreter(const Model *, const MicroOpResolver &, uint8_t *tensor_arena,
                   size_t tensor_arena_size)
      : arena_(reinterpret_cast<int8_t *>(tensor_arena)), size_(tensor_arena_size) {}

  TfLiteStatus AllocateTensors() {
    if (size_ < 2 * kElements) return kTfLiteError;
    input_ = {kTfLiteInt8, {}, {TFSPEC_INPUT_SCALE, TFSPEC_INPUT_ZERO_POINT}, kElements};
    output_ = {kTfLiteInt8, {}, {FAKE_OUTPUT_SCALE, TFSPEC_OUTPUT_ZERO_POINT}, kElements};
    input_.data.int8 = arena_;
    output_.data.int8 = arena_ + kElements;
    return kTfLiteOk;
  }

  TfLiteStatus Invoke() {
    memset(output_.data.int8, 127, kElements);
    return FAKE_INVOKE_STATUS;
  }

  TfLiteTensor *input(size_t index) { return index == 0 ? &input_ : nullptr; }
  TfLiteTensor *output(size_t index) { return index == 0 ? &output_ : nullptr; }
  size_t arena_used_bytes() const { return 2 * kElements; }

 private:
  static constexpr size_t kElements = TFSPEC_N_BINS * TFSPEC_N_FRAMES;
  int8_t *arena_;
  size_t size_;
  TfLiteTensor input_ = {};
  TfLiteTensor output_ = {};
};

}  // namespace tflite

#endif  // FAKE_TFLM_INTERPRETER_H_
