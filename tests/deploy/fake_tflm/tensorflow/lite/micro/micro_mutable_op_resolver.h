// Stand-in, see ../c/common.h.
#ifndef FAKE_TFLM_RESOLVER_H_
#define FAKE_TFLM_RESOLVER_H_

#include "tensorflow/lite/c/common.h"

namespace tflite {

class MicroOpResolver {};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddConcatenation() { return add(); }
  TfLiteStatus AddConv2D() { return add(); }
  TfLiteStatus AddEthosU() { return add(); }
  TfLiteStatus AddLogistic() { return add(); }
  TfLiteStatus AddMaxPool2D() { return add(); }
  TfLiteStatus AddTransposeConv() { return add(); }

 private:
  TfLiteStatus add() { return ++count_ <= tOpCount ? kTfLiteOk : kTfLiteError; }
  unsigned int count_ = 0;
};

}  // namespace tflite

#endif  // FAKE_TFLM_RESOLVER_H_
