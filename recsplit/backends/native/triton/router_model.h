// A router as a model of Triton's: clients call it as they would the models behind it, which it asks in the server itself. Nobody waits in it:
// a query's parts go out, and whoever gives the last answer joins them and answers the client. Servers elsewhere are asked over Triton's HTTP.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loaded.h"
#include "router.h"

namespace recsplit {

// In the version folder of a router: its settings.
constexpr char kRoutingFile[] = "routing.json";

class RouterModel : public Loaded {
 public:
  // `routing`: the router's settings. Throws Error where it can't be.
  RouterModel(Backend& backend, TRITONBACKEND_Model* model, const std::string& name, uint64_t version, const std::string& routing);
  ~RouterModel() override;

  void execute(TRITONBACKEND_Model* model, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count, bool& begun) override;
  void report() override;
  std::string loaded() override;

 private:
  struct Query;
  struct Sent;

  void begin(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request);
  void send(Sent& sent);
  void failed(Sent& sent, const std::string& why, TRITONSERVER_Error_Code code);
  void take(Sent& sent, TRITONSERVER_InferenceResponse* response);
  static Question question(const Sent& sent);
  static void receive(Sent& sent, const HttpConnection& answer);
  void answered(Sent& sent);
  void end_part(Query& query);
  static void finish(Query& query);
  static void join(Query& query);

  Backend& backend_;
  const std::string name_, version_;
  TRITONSERVER_Server* server_ = nullptr;
  TRITONSERVER_ResponseAllocator* allocator_ = nullptr;
  Router router_;
  Counters refused_;
  std::map<std::shared_ptr<Router::Variant>, std::unique_ptr<Counters>> variants_;  // of a variant that comes and goes they begin anew
  std::unique_ptr<Reported> reported_;
};

}  // namespace recsplit
