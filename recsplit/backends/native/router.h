// The state around the decisions of route.h: variants and servers by name, what is under way, how long each server really takes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backlog.h"
#include "json.h"
#include "replicas.h"
#include "route.h"

namespace recsplit {

class Router {
 public:
  // A model of this server (`address` empty), or of another one at host:port.
  struct Server {
    std::string model, address;
    int64_t version;  // -1: the newest
    std::shared_ptr<Replicas> elsewhere;  // what answers at the address
    std::atomic<uint64_t> answered{0}, failed{0};
    // Under the router's lock.
    Backlog under_way;
    int32_t at_once = 1;
    double scale = 1;  // the time that requests took over what they were thought to take, in the mean of the last ones
    bool is_well() const { return elsewhere == nullptr || elsewhere->any_well(); }
  };
  struct Variant {
    std::string name;
    std::atomic<uint64_t> queries{0}, rows{0}, parts{0};
  };

  // Rows [first, first + rows) of a query, and where they go; `done_ms` as in RoutePart.
  struct Part {
    std::shared_ptr<Variant> variant;
    std::shared_ptr<Server> server;
    int64_t first, rows;
    double done_ms;
    uint64_t number;  // in its server's backlog
  };

  // `settings`: JSON {"schema": 1, "variants": [{"name", "weight", "split_rows", "servers": [{"model", "version", "address", "a_ms", "b_ms", "at_once"}]}],
  // "large_rows", "large_variant", "deadline_ms", "timeout_ms"}. Throws Error where it can't be.
  explicit Router(const std::string& settings) { set(settings); }

  // Other settings, for queries that come from now on. Variants and servers that stay keep their counts and what is under way. Throws Error
  // where they can't be, and then the old ones stay. New servers elsewhere are waited for, a second at most.
  void set(const std::string& settings);

  // The parts of a query, in order. `within_ms`: the client's deadline; below 0: the settings'. Throws Unavailable where it can't be answered now.
  std::vector<Part> route(int64_t rows, double within_ms);

  // A part has its answer after `took_ms`, or failed.
  void answered(const Part& part, double took_ms, bool is_answer);

  // Gives a part that failed to another server of its variant. False: there is none.
  bool again(Part& part);

  std::string settings() const;
  std::vector<std::shared_ptr<Variant>> variants() const;
  std::vector<std::shared_ptr<Server>> servers() const;
  std::atomic<uint64_t> late{0}, lost{0};  // queries: refused for their deadline; with no server that is well

 private:
  struct Settings {
    std::string text;
    RouteRules rules{0, 0};
    double deadline_ms = 0;
    std::vector<RouteVariant> turns;  // by variant
    std::vector<std::shared_ptr<Variant>> variants;
    std::vector<RouteServer> terms;  // by server; a_ms, b_ms, at_once and variant hold, the rest is the server's
    std::vector<std::shared_ptr<Server>> servers;
  };

  std::vector<RouteServer> servers_at(Clock::time_point now) const;

  std::mutex setting_;
  mutable std::mutex mutex_;
  Settings settings_;
};

// Where a server elsewhere has the model, over HTTP.
std::string path_of(const Router::Server& server);

}  // namespace recsplit
