// Carries questions to servers elsewhere and answers back, all in one thread, which waits for none of them alone.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "replicas.h"

namespace recsplit {

class Courier {
 public:
  struct Errand {
    std::shared_ptr<Replicas> to;
    Question question;  // its pieces stay where they are until `done`
    // Called once, in the courier's thread: with the answer, or why there is none. `refused`: the server found fault with the question itself.
    // Throws Error where the answer is none, and is called once more then, without it.
    std::function<void(const HttpConnection* answer, const std::string& failure, bool refused)> done;
  };

  // Its thread begins with the first errand.
  Courier();
  // What is under way is given up.
  ~Courier();
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  void carry(Errand errand);

 private:
  struct Trip;

  void work();
  static bool start(Trip& trip);
  static bool proceed(Trip& trip);
  static void fail(Trip& trip, const std::string& why);

  std::mutex mutex_;
  std::vector<Errand> new_;
  bool ending_ = false;
  int wake_ = -1;  // an eventfd
  std::thread thread_;
};

}  // namespace recsplit
