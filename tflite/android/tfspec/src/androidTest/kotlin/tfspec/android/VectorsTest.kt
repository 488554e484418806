package tfspec.android

import android.content.res.AssetManager
import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/**
 * The device computes what the export computed: runs the test vectors that were copied to
 * `src/androidTest/assets/vectors`, beside `card.json` and the .tflite in `src/androidTest/assets`.
 */
@RunWith(AndroidJUnit4::class)
class VectorsTest {
  private val assets: AssetManager = InstrumentationRegistry.getInstrumentation().context.assets

  @Test
  fun outputsAreThoseOfTheExport() {
    val index = JSONObject(text("vectors/${Contract.INDEX}"))
    val card = Card.parse(text("card.json"), index.getString("precision"))
    assertEquals(card.file, index.getString(Contract.MODEL))
    val limit = index.getJSONObject(Contract.TOLERANCE).getDouble(Contract.ABSOLUTE)
    LiteRtNetwork(assets, card.file, card).use { network ->
      for (number in 0 until index.getInt(Contract.VECTORS)) {
        val output = network.run(vector(index.getJSONObject(Contract.VECTOR_INPUT), number))
        val expected = vector(index.getJSONObject(Contract.VECTOR_OUTPUT), number)
        assertEquals(expected.size, output.size)
        val error = output.indices.maxOf { abs(output[it] - expected[it]) }
        assertTrue("vector $number is off by $error (at most $limit)", error <= limit)
      }
    }
  }

  private fun vector(end: JSONObject, number: Int): FloatArray {
    val bytes = assets.open("vectors/${end.getString(Contract.FOLDER)}/$number.bin").readBytes()
    val values = FloatArray(bytes.size / Float.SIZE_BYTES)
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(values)
    return values
  }

  private fun text(path: String): String = assets.open(path).bufferedReader().readText()
}
