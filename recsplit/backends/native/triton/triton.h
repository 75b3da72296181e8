// Triton's API in few words: errors that are thrown and errors that are let go, its messages as JSON.
#pragma once

#include <chrono>
#include <string>

#include "error.h"
#include "json.h"
#include "triton_api.h"

namespace recsplit {

// Throws what a call of Triton's says.
inline void require(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw Error(message);
}

inline void forget(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

inline TRITONSERVER_Error* error_of(const std::string& message, bool clients, bool unavailable = false) {
  if (unavailable) return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNAVAILABLE, message.c_str());
  return TRITONSERVER_ErrorNew(clients ? TRITONSERVER_ERROR_INVALID_ARG : TRITONSERVER_ERROR_INTERNAL, message.c_str());
}

// What `f` throws, as an error of Triton's: no exception may leave the backend, it would end the server.
template <typename F>
TRITONSERVER_Error* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception& error) {
    return error_of(error.what(), true);
  }
}

inline uint64_t now_ns() { return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()); }

inline Json json_of(TRITONSERVER_Message* message, const char* origin) {
  const char* base = nullptr;
  size_t size = 0;
  require(TRITONSERVER_MessageSerializeToJson(message, &base, &size));
  return Json::parse({base, size}, origin);
}

}  // namespace recsplit
