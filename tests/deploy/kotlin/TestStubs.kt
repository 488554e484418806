package org.junit

annotation class Test

object Assert {
  @JvmStatic fun assertEquals(expected: Any?, actual: Any?): Unit = check(expected == actual)

  @JvmStatic fun assertEquals(expected: Long, actual: Long): Unit = check(expected == actual)

  @JvmStatic fun assertTrue(message: String, condition: Boolean): Unit = check(condition) { message }
}
