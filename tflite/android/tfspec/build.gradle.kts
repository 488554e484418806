plugins {
  id("com.android.library")
  id("org.jetbrains.kotlin.android")
}

android {
  namespace = "tfspec.android"
  compileSdk = 36

  defaultConfig {
    minSdk = 24 // of LiteRT 2.3
    testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
  }
  compileOptions {
    sourceCompatibility = JavaVersion.VERSION_11
    targetCompatibility = JavaVersion.VERSION_11
  }
  kotlinOptions { jvmTarget = "11" }
  // LiteRT maps the model where it lies in the package.
  androidResources { noCompress += "tflite" }
}

dependencies {
  implementation("com.google.ai.edge.litert:litert:2.3.0")
  androidTestImplementation("androidx.test.ext:junit:1.2.1")
  androidTestImplementation("androidx.test:runner:1.6.2")
}
