package tfspec.android

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer

/** A network from one flat input to one flat output, last axis fastest. */
fun interface Network {
  fun run(input: FloatArray): FloatArray
}

/**
 * A .tflite of an export, compiled by LiteRT 2.x; close it when done. Not thread-safe.
 *
 * @param assets where the file lies.
 * @param path of the file in the assets.
 * @param card entry of the file.
 * @param accelerator where it runs; GPUs compute in half precision.
 */
class LiteRtNetwork(
  assets: AssetManager,
  path: String,
  private val card: Card,
  accelerator: Accelerator = Accelerator.CPU,
) : Network, AutoCloseable {
  private val model = CompiledModel.create(assets, path, CompiledModel.Options(accelerator))
  private val input: TensorBuffer = model.createInputBuffer(card.input.name, card.signature)
  private val output: TensorBuffer = model.createOutputBuffer(card.output.name, card.signature)

  override fun run(input: FloatArray): FloatArray {
    require(input.size == card.input.size) {
      "${card.input.name} takes ${card.input.size} values. Received: ${input.size}"
    }
    this.input.writeFloat(input)
    model.run(
      mapOf(card.input.name to this.input),
      mapOf(card.output.name to output),
      card.signature,
    )
    return output.readFloat()
  }

  override fun close() {
    input.close()
    output.close()
    model.close()
  }
}
