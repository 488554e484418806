// Android's org.json, as much as is called, on kotlinx.serialization.
package org.json

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive

class JSONException(message: String) : RuntimeException(message)

class JSONObject internal constructor(private val json: JsonObject) {
  constructor(text: String) : this(Json.parseToJsonElement(text).jsonObject)

  private fun value(name: String): JsonElement =
    json[name] ?: throw JSONException("No value for $name")

  fun has(name: String): Boolean = name in json

  fun isNull(name: String): Boolean = (json[name] ?: JsonNull) is JsonNull

  fun keys(): Iterator<String> = json.keys.iterator()

  fun getString(name: String): String = value(name).jsonPrimitive.content

  fun getInt(name: String): Int = value(name).jsonPrimitive.content.toInt()

  fun getDouble(name: String): Double = value(name).jsonPrimitive.content.toDouble()

  fun getJSONObject(name: String): JSONObject = JSONObject(value(name).jsonObject)

  fun getJSONArray(name: String): JSONArray = JSONArray(value(name).jsonArray)

  fun optString(name: String): String = optString(name, "")

  fun optString(name: String, fallback: String): String =
    (json[name] as? JsonPrimitive)?.content ?: fallback

  fun optBoolean(name: String, fallback: Boolean): Boolean =
    (json[name] as? JsonPrimitive)?.content?.toBooleanStrictOrNull() ?: fallback

  fun optJSONArray(name: String): JSONArray? = (json[name] as? JsonArray)?.let { JSONArray(it) }

  fun optJSONObject(name: String): JSONObject? = (json[name] as? JsonObject)?.let { JSONObject(it) }
}

class JSONArray internal constructor(private val json: JsonArray) {
  fun length(): Int = json.size

  fun getInt(index: Int): Int = json[index].jsonPrimitive.content.toInt()

  fun getString(index: Int): String = json[index].jsonPrimitive.content

  fun getJSONObject(index: Int): JSONObject = JSONObject(json[index].jsonObject)
}
