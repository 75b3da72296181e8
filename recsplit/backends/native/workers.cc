#include "workers.h"

#include <algorithm>
#include <chrono>

namespace recsplit {

Workers::Workers(int count) : count_(0) { set(count); }

Workers::~Workers() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  offered_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::set(int count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  count_ = std::clamp(count, 1, kMostWorkers);
  // Who calls `run` is a worker too. Threads that are too many wait for the next time.
  while (static_cast<int>(threads_.size()) < count_ - 1) threads_.emplace_back([this] { help(); });
  free_.notify_all();
  offered_.notify_all();
}

void Workers::work(Batch& batch) {
  const auto start = std::chrono::steady_clock::now();
  for (size_t block = batch.next++; block < batch.blocks; block = batch.next++) (*batch.task)(block);
  busy_ns_ += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count());
}

void Workers::run(size_t blocks, const std::function<void(size_t)>& task) {
  Batch batch{blocks, &task};
  std::unique_lock<std::mutex> lock(mutex_);
  free_.wait(lock, [&] { return working_ < count_; });
  ++working_;
  const auto helpers = std::min<size_t>(blocks - 1, static_cast<size_t>(count_ - working_));
  if (blocks > 1) open_.push_back(&batch);
  lock.unlock();
  for (size_t number = 0; number < helpers; ++number) offered_.notify_one();
  work(batch);
  lock.lock();
  --working_;
  if (blocks > 1) open_.erase(std::find(open_.begin(), open_.end(), &batch));
  free_.notify_one();
  if (!open_.empty()) offered_.notify_one();
  done_.wait(lock, [&] { return batch.helpers == 0; });
}

void Workers::help() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    // Looked for once: blocks are taken without the lock, so that a batch that had some may have none when it is looked at again.
    Batch* offered = nullptr;
    const auto look = [&] {
      const auto open = std::find_if(open_.begin(), open_.end(), [](const Batch* batch) { return batch->next < batch->blocks; });
      offered = working_ < count_ && open != open_.end() ? *open : nullptr;
      return ending_ || offered != nullptr;
    };
    offered_.wait(lock, look);
    if (ending_) return;
    Batch& batch = *offered;
    ++batch.helpers;
    ++working_;
    lock.unlock();
    work(batch);
    lock.lock();
    --working_;
    --batch.helpers;
    free_.notify_one();
    done_.notify_all();
  }
}

}  // namespace recsplit
