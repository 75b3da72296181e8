// Changing the number of workers from outside: a socket in a folder that only the server's user can enter.
//
// A line of JSON a question: {} asks for all models, {"model": NAME, "workers": N} sets that many first. A line of JSON an answer:
// {"workers": {NAME: N, ...}}, or {"error": WHY}.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "workers.h"

namespace recsplit {

// The models that are loaded, by name; all versions of a model have as many workers.
class Registry {
 public:
  void add(const std::string& model, Workers* workers);
  void remove(const std::string& model, Workers* workers);
  // The answer to one line. Throws nothing.
  std::string answer(const std::string& line);

 private:
  std::mutex mutex_;
  std::map<std::string, std::set<Workers*>> models_;
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
