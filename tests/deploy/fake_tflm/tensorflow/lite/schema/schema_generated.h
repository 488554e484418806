// Stand-in, see ../c/common.h. A "model" is its schema version in the first byte.
#ifndef FAKE_TFLM_SCHEMA_H_
#define FAKE_TFLM_SCHEMA_H_

#include <stdint.h>

namespace tflite {

struct Model {
  uint8_t first;
  uint32_t version() const { return first; }
};

inline const Model *GetModel(const void *buffer) { return static_cast<const Model *>(buffer); }

}  // namespace tflite

#endif  // FAKE_TFLM_SCHEMA_H_
