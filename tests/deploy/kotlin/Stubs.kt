// Declarations of what the Android module calls, for a desktop compiler: names and types as in the
// public Kotlin interface of LiteRT 2.3. Nothing here computes.
package com.google.ai.edge.litert

import android.content.res.AssetManager

enum class Accelerator {
  CPU,
  GPU,
  NPU,
}

abstract class JniHandle : AutoCloseable {
  override fun close() = Unit
}

class Environment : JniHandle()

class TensorBuffer : JniHandle() {
  fun writeFloat(data: FloatArray): Unit = throw UnsupportedOperationException("${data.size}")

  fun readFloat(): FloatArray = throw UnsupportedOperationException()
}

class CompiledModel : JniHandle() {
  class Options(val accelerators: Set<Accelerator>) {
    constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))
  }

  fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer =
    throw UnsupportedOperationException("$inputName $signature")

  fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer =
    throw UnsupportedOperationException("$outputName $signature")

  fun run(
    inputs: Map<String, TensorBuffer>,
    outputs: Map<String, TensorBuffer>,
    signature: String? = null,
  ): Unit = throw UnsupportedOperationException("$inputs $outputs $signature")

  companion object {
    @JvmStatic
    fun create(
      assetManager: AssetManager,
      assetName: String,
      options: Options,
      optionalEnv: Environment? = null,
    ): CompiledModel =
      throw UnsupportedOperationException("$assetManager $assetName $options $optionalEnv")
  }
}
