// The replicas of one shard: which to ask, and which to avoid until a probe finds it well again. As backends/remote/replicas.py has it.
#pragma once

#include <netinet/in.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "http.h"

namespace recsplit {

using Clock = std::chrono::steady_clock;

// How long to wait for one answer, when to ask a second replica beside the first (0: never), how many one call asks at most, and how long
// between two probes of a replica that is avoided, and between two look-ups of host names.
struct Asking {
  std::chrono::milliseconds timeout, hedge, probe, resolve;
  int attempts;
};

struct Replica {
  explicit Replica(std::string called, const sockaddr_in& at) : name(std::move(called)), address(at) {}

  const std::string name;
  const sockaddr_in address;
  // Under the lock of its Replicas.
  bool well = false, asked = false, probed = false;  // `probed`: now
  std::string problem = "not asked yet";
  int under_way = 0;
  Clock::time_point probe_at{};
  std::vector<std::unique_ptr<HttpConnection>> idle;
  // Counts only rise.
  std::atomic<uint64_t> answered{0}, failed{0}, answered_us{0};
};

// What goes out, and stays until the answer is there.
struct Question {
  std::string head;
  std::vector<Piece> body;
};

class Replicas {
 public:
  // `addresses`: host:port; a name stands for every address that it resolves to. `probe` answers with bytes of a status 200 where a replica is
  // well. Throws Error where an address can't be one. Begins to look for them at once, in a thread of its own.
  Replicas(std::vector<std::string> addresses, const Asking& asking, Question probe);
  ~Replicas();
  Replicas(const Replicas&) = delete;
  Replicas& operator=(const Replicas&) = delete;

  const Asking& asking() const { return asking_; }
  // The well replica with the fewest calls under way, but for those in `but`, in turn where several have; counts a call. nullptr: none.
  std::shared_ptr<Replica> choose(const std::vector<std::shared_ptr<Replica>>& but);
  // A connection that stayed open, or a new one. Throws Error.
  std::unique_ptr<HttpConnection> connection(Replica& replica, bool fresh);
  void answered(Replica& replica, std::unique_ptr<HttpConnection> connection, Clock::duration took);
  void failed(Replica& replica, const std::string& problem);
  void let_go(Replica& replica);
  // Why nobody answers, in words.
  std::string nobody() const;
  // Until one was found well, or so long, and for the others a little longer. Whether one was.
  bool wait(std::chrono::milliseconds most);

  std::vector<std::shared_ptr<Replica>> all() const;
  std::atomic<uint64_t> retries{0}, hedges{0}, lost{0};
  bool is_well(const Replica& replica) const;
  bool any_well() const;
  // Who is told, in a sentence, when a replica is avoided and when it is back.
  void tell(std::function<void(const std::string&)> whom);

 private:
  void notice(const std::string& words) const;
  void resolve();
  void look_after();
  struct Probe {
    std::shared_ptr<Replica> replica;
    std::unique_ptr<HttpConnection> connection;
    Clock::time_point deadline;
  };
  void proceed(std::vector<Probe>& running);
  void settle(Replica& replica, const std::string& problem, std::unique_ptr<HttpConnection> connection);

  const std::vector<std::string> addresses_;
  const Asking asking_;
  const Question probe_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<Replica>> known_;
  size_t turn_ = 0;
  bool ending_ = false;
  std::function<void(const std::string&)> told_;
  std::thread thread_;
};

// In words: "0.2 s".
std::string seconds(std::chrono::milliseconds time);
// What a server says where it doesn't answer.
std::string said(const HttpConnection& connection);

}  // namespace recsplit
