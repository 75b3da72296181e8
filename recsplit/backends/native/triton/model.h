// A model that the engine computes: requests in, responses out.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loaded.h"

namespace recsplit {

class TableSeries;
class ShardSeries;

class Model : public Loaded {
 public:
  // `folder`: that of the model's versions; `config`: Triton's. Throws Error where they don't belong together.
  Model(Backend& backend, const std::string& name, uint64_t version, const std::string& folder, const Json& config);
  ~Model() override;

  void execute(TRITONBACKEND_Model* model, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count, bool& begun) override;
  void report() override;
  std::string loaded() override;

 private:
  bool serves(TRITONBACKEND_Model* model);
  void report_workers();

  Backend& backend_;
  const std::string name_, version_;
  std::atomic<bool> is_ready_{false};
  Engine engine_;
  std::mutex reporting_;
  Series workers_, busy_;
  uint64_t reported_ns_ = 0;
  int reported_workers_ = 0;
  std::vector<std::unique_ptr<TableSeries>> tables_;
  std::vector<std::unique_ptr<ShardSeries>> shards_;
  std::unique_ptr<Reported> reported_;
};

}  // namespace recsplit
