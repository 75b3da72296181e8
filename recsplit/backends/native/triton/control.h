// Asking and changing the engine from outside: a socket in a folder that only the server's user can enter.
//
// A line of JSON a question. {} asks for the workers of all models, {"model": NAME, "workers": N} sets that many first. {"access": NAME} asks
// what requests have read, {"access": NAME, "clear": true} begins anew as well. A line of JSON an answer: {"workers": {NAME: N, ...}},
// {"access": {"rows": of requests, "stride": one of so many was sampled, "tables": [{"name", "rows", "ids", "read", "unknown", "level",
// "sampled"}, ...]}}, behind which stand the tables' sampled rows, UINT32, as many of each as it says; or {"error": WHY}. {"route": NAME} asks
// what a router has done, {"route": NAME, "settings": TEXT} gives it other settings first, JSON as router.h has it.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"
#include "router.h"

namespace recsplit {

// The models that are loaded, by name; all versions of a model have as many workers.
class Registry {
 public:
  void add(const std::string& model, Engine* engine);
  void remove(const std::string& model, Engine* engine);
  void add(const std::string& model, Router* router);
  void remove(const std::string& model, Router* router);
  // The answer to one line, its end of line and what stands behind it included. Throws nothing.
  std::string answer(const std::string& line);

 private:
  std::mutex mutex_;
  std::string access(const Json& question);
  std::string route(const Json& question);

  std::map<std::string, std::vector<Engine*>> models_;  // the newest version last
  std::map<std::string, std::vector<Router*>> routers_;
  std::map<std::string, int> asked_;  // what was asked for stays in force for the versions that come later
};

// Listens at `path` until it goes.
class Control {
 public:
  // Throws Error where the socket can't be made.
  Control(const std::string& path, Registry& registry);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

 private:
  void serve();
  void talk(int connection);

  std::string path_;
  Registry& registry_;
  int listening_ = -1;
  int ending_[2] = {-1, -1};
  std::thread thread_;
};

}  // namespace recsplit
