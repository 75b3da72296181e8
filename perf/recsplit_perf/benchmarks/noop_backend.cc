// A Triton backend that answers 1.0 to everything at once, so that instances come and go within a millisecond.
// The declarations are those of Triton's C API (tritonbackend.h) that it uses; the server that loads it resolves them.
#include <cstdint>
#include <cstring>

extern "C" {
struct TRITONSERVER_Error;
struct TRITONBACKEND_ModelInstance;
struct TRITONBACKEND_Request;
struct TRITONBACKEND_Response;
struct TRITONBACKEND_Output;

TRITONSERVER_Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response**, TRITONBACKEND_Request*);
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(
    TRITONBACKEND_Response*, TRITONBACKEND_Output**, const char* name, int dtype, const int64_t* shape, uint32_t dims);
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(
    TRITONBACKEND_Output*, void** buffer, uint64_t size_bytes, int* memory_type, int64_t* memory_id);
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response*, uint32_t flags, TRITONSERVER_Error*);
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request*, uint32_t flags);

__attribute__((visibility("default"))) TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(
    TRITONBACKEND_ModelInstance*, TRITONBACKEND_Request** requests, const uint32_t count) {
  constexpr int kFp32 = 11;
  constexpr uint32_t kFinal = 1, kAll = 1;
  const int64_t shape[2] = {1, 1};
  const float answer = 1.0f;
  for (uint32_t i = 0; i < count; ++i) {
    TRITONBACKEND_Response* response = nullptr;
    TRITONBACKEND_Output* output = nullptr;
    void* buffer = nullptr;
    int memory_type = 0;
    int64_t memory_id = 0;
    TRITONBACKEND_ResponseNew(&response, requests[i]);
    TRITONBACKEND_ResponseOutput(response, &output, "y", kFp32, shape, 2);
    TRITONBACKEND_OutputBuffer(output, &buffer, sizeof(answer), &memory_type, &memory_id);
    std::memcpy(buffer, &answer, sizeof(answer));
    TRITONBACKEND_ResponseSend(response, kFinal, nullptr);
    TRITONBACKEND_RequestRelease(requests[i], kAll);
  }
  return nullptr;
}
}
