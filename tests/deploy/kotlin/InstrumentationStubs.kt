package androidx.test.platform.app

import android.content.res.AssetManager

class Context {
  val assets: AssetManager = AssetManager()
}

class Instrumentation {
  val context: Context = Context()
}

object InstrumentationRegistry {
  @JvmStatic fun getInstrumentation(): Instrumentation = Instrumentation()
}
