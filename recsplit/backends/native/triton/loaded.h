// What all models of the backend share, and what each must be able to do.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control.h"
#include "courier.h"
#include "engine.h"
#include "series.h"
#include "triton.h"

namespace recsplit {

// A model that Triton has loaded.
class Loaded {
 public:
  virtual ~Loaded() = default;
  // Answers requests, now or later, and gives them back. May throw while `begun` is false: before the first response is sent.
  virtual void execute(TRITONBACKEND_Model* model, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count, bool& begun) = 0;
  // Brings series up to date that cost too much for every batch. Called by one at a time.
  virtual void report() = 0;
  // What it is, in words.
  virtual std::string loaded() = 0;
};

struct Backend {
  EngineSettings settings;
  Registry registry;
  Courier courier;  // here and not in a model: the last hold on a model may go in its thread
  std::unique_ptr<Control> control;
  const Families workers{TRITONSERVER_METRIC_KIND_GAUGE, kWorkers}, busy{TRITONSERVER_METRIC_KIND_COUNTER, kBusy}, tables{TRITONSERVER_METRIC_KIND_COUNTER, kTables};
  const Families replicas{TRITONSERVER_METRIC_KIND_COUNTER, kReplicas}, shards{TRITONSERVER_METRIC_KIND_COUNTER, kShards}, up{TRITONSERVER_METRIC_KIND_GAUGE, kUp};
  const Families variants{TRITONSERVER_METRIC_KIND_COUNTER, kVariants}, refused{TRITONSERVER_METRIC_KIND_COUNTER, kRefused};

  std::mutex reporting;
  std::condition_variable ending;
  bool is_ending = false;
  std::vector<Loaded*> models;
  std::thread reporter;

  void report();
};

// A model that is told of twice a second, as long as this lives.
class Reported {
 public:
  Reported(Backend& backend, Loaded& model);
  ~Reported();
  Reported(const Reported&) = delete;
  Reported& operator=(const Reported&) = delete;

 private:
  Backend& backend_;
  Loaded& model_;
};

}  // namespace recsplit
