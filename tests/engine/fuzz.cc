// What a fuzzer tries of the engine (libFuzzer): `python -m tests.engine.fuzzed` compiles it, makes the models, and runs it.
//
// RECSPLIT_FUZZ names what the bytes are: "recipe" (engine.json), "config" (Triton's, as JSON) or "requests" (a batch of them).
// RECSPLIT_FUZZ_FOLDER has a model's version folder; for the first two what is mutated is put into a copy of it for each trial.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "c_api.h"
#include "json.h"

namespace {

const char* kSettings = R"({"workers": 2, "tables": "mapped", "kernels": "portable"})";
const char* kDtypes[] = {"INT64", "INT32", "FP32", "FP16", "FP64", "BOOL", "INT8", "UINT8", "BYTES", ""};
constexpr size_t kMostBytes = 1 << 20;

std::string folder, config;
std::vector<std::string> names, dtypes;
std::vector<std::vector<int64_t>> shapes;
void* opened = nullptr;

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Bytes one after the other; zeros behind the last one.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t byte() { return at_ == end_ ? 0 : *at_++; }
  int64_t number() {
    uint64_t number = 0;
    for (int count = byte() % 9; count > 0; --count) number = number << 8 | byte();
    return static_cast<int64_t>(number);
  }
  void fill(std::vector<char>& data) {
    for (char& item : data) item = static_cast<char>(byte());
  }

 private:
  const uint8_t *at_, *end_;
};

// One request of an engine: every input of the config's, most as it should be, some not.
void add(void* batch, uint32_t number, Bytes& bytes, std::vector<std::vector<char>>& kept, bool wild) {
  const int64_t rows = bytes.byte() % 5;
  for (size_t input = 0; input < names.size(); ++input) {
    const uint8_t how = wild ? bytes.byte() : 0;
    if (how == 255) continue;
    std::string dtype = how > 250 ? kDtypes[bytes.byte() % std::size(kDtypes)] : dtypes[input];
    std::vector<int64_t> dims{how == 250 ? bytes.number() : rows};
    for (const int64_t dim : shapes[input]) dims.push_back(how == 249 ? bytes.number() : dim >= 0 ? dim : bytes.byte() % 16);
    if (how == 248) dims.resize(bytes.byte() % 6, 1);
    // Never more bytes than there are: Triton compares them with the shape. Of a dim below 0 no shape has any.
    size_t size = 8;
    bool negative = false;
    for (const int64_t dim : dims) {
      negative = negative || dim < 0;
      size = dim < 0 ? 0 : static_cast<uint64_t>(dim) > kMostBytes ? kMostBytes + 1 : std::min(size * static_cast<size_t>(dim), kMostBytes + 1);
      if (size > kMostBytes) break;
    }
    if (size > kMostBytes && !negative) continue;
    kept.emplace_back(negative ? 8 : std::max<size_t>(size, 8));
    std::vector<char>& data = kept.back();
    if (bytes.byte() % 4 == 0) {
      bytes.fill(data);
    } else {
      for (size_t at = 0; at < data.size(); at += 8) data[at] = static_cast<char>(bytes.byte() % 32);
    }
    recsplit_input(batch, number, names[input].c_str(), dtype.c_str(), dims.data(), static_cast<uint32_t>(dims.size()), data.data());
  }
}

void ask(void* engine, Bytes& bytes, bool wild) {
  const uint32_t requests = 1 + bytes.byte() % 4;
  std::vector<std::vector<char>> kept;
  kept.reserve(requests * names.size());
  void* batch = recsplit_batch(engine, requests);
  if (batch == nullptr) return;
  for (uint32_t number = 0; number < requests; ++number) add(batch, number, bytes, kept, wild);
  recsplit_run(batch);
  for (uint32_t number = 0; number < requests; ++number) recsplit_failure(batch, number);
  recsplit_free(batch);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  folder = std::getenv("RECSPLIT_FUZZ_FOLDER");
  config = text_of(folder + "/config.json");
  const recsplit::Json json = recsplit::Json::parse(config, "config.json");
  for (const recsplit::Json& input : json.at("input").array()) {
    names.push_back(input.at("name").text());
    dtypes.push_back(input.at("data_type").text().substr(5));
    shapes.push_back(input.at("dims").integers());
  }
  opened = recsplit_open(folder.c_str(), config.c_str(), kSettings);
  if (opened == nullptr) {
    std::fprintf(stderr, "%s\n", recsplit_error());
    std::abort();
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string target = std::getenv("RECSPLIT_FUZZ");
  if (target == "requests") {
    Bytes bytes(data, size);
    ask(opened, bytes, true);
    return 0;
  }
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::string recipe = folder + "/trial/engine.json";
  if (target == "recipe") std::ofstream(recipe, std::ios::binary) << text;
  void* engine = recsplit_open((folder + (target == "recipe" ? "/trial" : "")).c_str(), target == "config" ? text.c_str() : config.c_str(), kSettings);
  if (engine == nullptr) return 0;
  // Whoever answers must answer whatever comes, by its own config.
  for (uint8_t seed = 0; seed < 4; ++seed) {
    std::vector<uint8_t> random(512);
    for (size_t at = 0; at < random.size(); ++at) random[at] = static_cast<uint8_t>((at * 37 + seed * 101) ^ (at >> 3));
    Bytes bytes(random.data(), random.size());
    ask(engine, bytes, false);
  }
  recsplit_close(engine);
  return 0;
}
