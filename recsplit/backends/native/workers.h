// Workers: how much of a model computes at a time. Their number changes at once, while requests flow.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace recsplit {

constexpr int kMostWorkers = 1024;

// At most `count` threads compute at a time: those that call `run`, and threads of its own that help with batches of several blocks.
class Workers {
 public:
  explicit Workers(int count);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void set(int count);
  int count() const { return count_.load(std::memory_order_relaxed); }
  // Time that workers have computed, all together, since the start.
  uint64_t busy_ns() const { return busy_ns_.load(std::memory_order_relaxed); }

  // Calls task(0 .. blocks-1), each once, and returns when all are done. The task must not throw.
  void run(size_t blocks, const std::function<void(size_t)>& task);

 private:
  struct Batch {
    size_t blocks;
    const std::function<void(size_t)>* task;
    std::atomic<size_t> next{0};
    int helpers = 0;
  };

  void help();
  void work(Batch& batch);

  std::mutex mutex_;
  std::condition_variable free_, offered_, done_;
  std::atomic<int> count_;
  int working_ = 0;
  bool ending_ = false;
  std::deque<Batch*> open_;  // those with blocks that nobody has begun
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> busy_ns_{0};
};

}  // namespace recsplit
