// What a model tells on Triton's metrics page.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "triton.h"

namespace recsplit {

struct Family {
  const char *name, *words;
};
constexpr Family kWorkers[] = {{"recsplit_workers", "Threads of the engine that may compute for the model at a time"}};
constexpr Family kBusy[] = {{"recsplit_worker_busy_us", "Time that the engine's workers have computed for the model, us"}};
constexpr Family kVariants[] = {
    {"recsplit_route_queries", "Queries that a router gave to the variant"},
    {"recsplit_route_rows", "Rows of the queries that a router gave to the variant"},
    {"recsplit_route_parts", "Parts into which they were cut"},
};
constexpr Family kRefused[] = {
    {"recsplit_route_late", "Queries that a router refused, since no server could answer in time"},
    {"recsplit_route_lost", "Queries that a router refused, since no server was well"},
};
constexpr Family kUp[] = {{"recsplit_remote_replica_up", "1: the replica is asked; 0: it failed, and is avoided until a probe is answered"}};
constexpr Family kTables[] = {
    {"recsplit_table_ids", "Ids that requests brought for the table"},
    {"recsplit_table_rows_read", "Rows that were read of the table: ids but for padding"},
    {"recsplit_table_bytes_read", "Bytes of the rows that were read of the table"},
    {"recsplit_table_cache_lines", "Cache lines in which the rows that were read lie, an estimate by the size of a row"},
    {"recsplit_table_unknown_ids", "Ids that are outside the table"},
};

// What a front tells of its shards elsewhere, as backends/remote/remote_metrics.py does of each: of one replica, and of all together.
constexpr Family kReplicas[] = {
    {"recsplit_remote_calls_answered", "Calls of a shard's replica that were answered"},
    {"recsplit_remote_calls_failed", "Calls of a shard's replica that failed, whether another one answered or not"},
    {"recsplit_remote_call_duration_us", "Time that answered calls took, summed, in us"},
};
constexpr Family kShards[] = {
    {"recsplit_remote_retries", "Calls repeated on another replica after a failure"},
    {"recsplit_remote_hedges", "Calls sent to a second replica beside a slow first one"},
    {"recsplit_remote_calls_lost", "Calls that no replica answered: their requests got an error"},
    {"recsplit_remote_calls_skipped", "Batches that no call was needed for: none of their rows lies in the shard"},
    {"recsplit_remote_rows", "Rows that were asked for"},
    {"recsplit_remote_requests", "Requests of clients that were looked at for rows of the shard"},
};

// Families of metrics, which series are made of. A server without metrics has none (nullptr), and nothing else is lost.
class Families {
 public:
  template <size_t N>
  Families(TRITONSERVER_MetricKind kind, const Family (&of)[N]) {
    for (const Family& family : of) {
      all_.push_back(nullptr);
      forget(TRITONSERVER_MetricFamilyNew(&all_.back(), kind, family.name, family.words));
    }
  }
  ~Families() {
    for (TRITONSERVER_MetricFamily* family : all_) {
      if (family != nullptr) forget(TRITONSERVER_MetricFamilyDelete(family));
    }
  }
  Families(const Families&) = delete;
  Families& operator=(const Families&) = delete;
  size_t size() const { return all_.size(); }
  TRITONSERVER_MetricFamily* operator[](size_t number) const { return all_[number]; }

 private:
  std::vector<TRITONSERVER_MetricFamily*> all_;
};

// One series of a model's.
class Series {
 public:
  // `what`: one more label, and its value.
  Series(const Families& families, const std::string& model, const std::string& version, const char* what = "", const std::string& which = "", size_t number = 0) {
    if (families[number] == nullptr) return;
    TRITONSERVER_Parameter* labels[3] = {TRITONSERVER_ParameterNew("model", TRITONSERVER_PARAMETER_STRING, model.c_str()),
                                         TRITONSERVER_ParameterNew("version", TRITONSERVER_PARAMETER_STRING, version.c_str()),
                                         TRITONSERVER_ParameterNew(*what == '\0' ? "none" : what, TRITONSERVER_PARAMETER_STRING, which.c_str())};
    forget(TRITONSERVER_MetricNew(&metric_, families[number], const_cast<const TRITONSERVER_Parameter**>(labels), *what == '\0' ? 2 : 3));
    for (TRITONSERVER_Parameter* label : labels) TRITONSERVER_ParameterDelete(label);
  }
  ~Series() {
    if (metric_ != nullptr) forget(TRITONSERVER_MetricDelete(metric_));
  }
  Series(const Series&) = delete;
  Series& operator=(const Series&) = delete;
  void add(double value) {
    if (metric_ != nullptr) forget(TRITONSERVER_MetricIncrement(metric_, value));
  }
  void set(double value) {
    if (metric_ != nullptr) forget(TRITONSERVER_MetricSet(metric_, value));
  }

 private:
  TRITONSERVER_Metric* metric_ = nullptr;
};

// Counts that only rise, as series of one model.
class Counters {
 public:
  Counters(const Families& families, const std::string& model, const std::string& version, const char* what = "", const std::string& which = "") {
    for (size_t number = 0; number < families.size(); ++number) series_.push_back(std::make_unique<Series>(families, model, version, what, which, number));
    reported_.resize(series_.size(), 0);
  }

  void report(const std::vector<uint64_t>& now) {
    for (size_t number = 0; number < now.size(); ++number) {
      if (now[number] == reported_[number]) continue;
      series_[number]->add(static_cast<double>(now[number] - reported_[number]));
      reported_[number] = now[number];
    }
  }

 private:
  std::vector<std::unique_ptr<Series>> series_;
  std::vector<uint64_t> reported_;
};

}  // namespace recsplit
