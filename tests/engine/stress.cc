// Threads that ask one model of the engine while its workers change, without Python: what ThreadSanitizer and valgrind look at.
// Arguments: version folder, config as JSON, settings as JSON, rows of the table, seconds. The model's one input is ids INT64 [batch, 20].

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "c_api.h"

namespace {

constexpr int64_t kIds = 20;

struct Query {
  std::vector<int64_t> ids;
  std::vector<char> answer;
};

// The answer of each query of one batch; ends the process where one fails.
void ask(void* engine, const std::vector<Query*>& queries, bool keep) {
  void* batch = recsplit_batch(engine, static_cast<uint32_t>(queries.size()));
  for (uint32_t number = 0; number < queries.size(); ++number) {
    const int64_t dims[2] = {static_cast<int64_t>(queries[number]->ids.size()) / kIds, kIds};
    if (recsplit_input(batch, number, "ids", "INT64", dims, 2, queries[number]->ids.data()) != 0) std::abort();
  }
  recsplit_run(batch);
  for (uint32_t number = 0; number < queries.size(); ++number) {
    if (recsplit_failure(batch, number) != nullptr) std::abort();
    const int64_t* dims = nullptr;
    uint32_t rank = 0;
    const auto* data = static_cast<const char*>(recsplit_output(batch, number, "embeddings_32", &dims, &rank));
    const size_t bytes = static_cast<size_t>(dims[0] * dims[1] * dims[2]) * sizeof(float);
    if (keep) {
      queries[number]->answer.assign(data, data + bytes);
    } else if (bytes != queries[number]->answer.size() || std::memcmp(data, queries[number]->answer.data(), bytes) != 0) {
      std::abort();
    }
  }
  recsplit_free(batch);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) return 2;
  void* engine = recsplit_open(arguments[1], arguments[2], arguments[3]);
  if (engine == nullptr) {
    std::fprintf(stderr, "%s\n", recsplit_error());
    return 1;
  }
  std::mt19937_64 random(0);
  std::vector<Query> queries;
  for (const int64_t rows : {1, 3, 64, 700, 2000}) {
    Query query;
    for (int64_t place = 0; place < rows * kIds; ++place) query.ids.push_back(static_cast<int64_t>(random() % std::strtoull(arguments[4], nullptr, 10)));
    queries.push_back(std::move(query));
  }
  for (Query& query : queries) ask(engine, {&query}, true);
  std::atomic<bool> ending{false};
  std::atomic<long> asked{0}, changed{0};
  std::vector<std::thread> threads;
  for (size_t number = 0; number < 4; ++number) {
    threads.emplace_back([&, number] {
      for (size_t turn = number; !ending; ++turn, ++asked) {
        std::vector<Query*> chosen;
        for (size_t place = 0; place < 1 + turn % 3; ++place) chosen.push_back(&queries[(turn + place) % queries.size()]);
        ask(engine, chosen, false);
      }
    });
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(std::strtol(arguments[5], nullptr, 10));
  while (std::chrono::steady_clock::now() < until) {
    recsplit_set_workers(engine, 1 + static_cast<int>(changed++ % 5));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ending = true;
  for (std::thread& thread : threads) thread.join();
  recsplit_close(engine);
  std::printf("%ld batches, %ld changes of workers\n", asked.load(), changed.load());
  return 0;
}
