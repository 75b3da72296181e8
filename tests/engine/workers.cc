// Batches of a few blocks that are over in no time, from several threads: what a helper is offered is gone when it looks. Arguments: seconds.

#include "workers.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

int main(int count, char** arguments) {
  if (count != 2) return 2;
  recsplit::Workers workers(3);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<int64_t>(1000 * std::strtod(arguments[1], nullptr)));
  std::vector<std::thread> threads;
  std::atomic<uint64_t> batches{0};
  for (int number = 0; number < 3; ++number) {
    threads.emplace_back([&, number] {
      while (std::chrono::steady_clock::now() < end) {
        const size_t blocks = 1 + (batches++ + static_cast<size_t>(number)) % 3;
        std::atomic<size_t> done{0};
        workers.run(blocks, [&](size_t) { ++done; });
        if (done != blocks) std::abort();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%llu\n", static_cast<unsigned long long>(batches.load()));
}
