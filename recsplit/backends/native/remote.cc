#include "remote.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "calls.h"
#include "error.h"

namespace recsplit {

namespace {

size_t tensor_of(std::vector<Tensor>& tensors, const Tensor& tensor) {
  for (size_t number = 0; number < tensors.size(); ++number) {
    if (tensors[number].name != tensor.name) continue;
    if (tensors[number].dtype != tensor.dtype || tensors[number].dims != tensor.dims) throw Error("shards read or make '" + tensor.name + "' in several forms");
    return number;
  }
  tensors.push_back(tensor);
  return tensors.size() - 1;
}

std::chrono::milliseconds milliseconds(const Json& json, const char* key, int64_t least) { return std::chrono::milliseconds(json.at(key).integer(least, 3600 * 1000)); }

// Dims that make so many elements a row.
std::vector<int64_t> dims_of(const Json& json, size_t elements) {
  std::vector<int64_t> dims = json.integers();
  uint64_t product = 1;
  for (const int64_t dim : dims) {
    if (dim < 1 || dim > (1 << 24)) throw Error("a tensor between the front's models has fixed dims");
    product *= static_cast<uint64_t>(dim);
  }
  if (product != elements) throw Error("a tensor between the front's models doesn't hold what the shards read or give");
  return dims;
}

// Elements a row.
size_t width_of(const Tensor& tensor) {
  size_t width = 1;
  for (const int64_t dim : tensor.dims) width *= static_cast<size_t>(dim);
  return width;
}

// A vector of FP32 that a bag without rows gives; where the next one begins.
float* fill_empty(float* vector, uint32_t dim, Pooling pooling) { return std::fill_n(vector, dim, pooling == Pooling::max ? -std::numeric_limits<float>::infinity() : 0.0F); }

// A batch's places of one shard as bags, and which requests have some.
struct Bucket {
  std::vector<Csr> csr;  // by the shard's bags
  std::vector<Scratch> memory;
  std::vector<char> concerned;
  uint64_t count = 0;
};

Bucket bucketise(const Remote::Shard& shard, const std::vector<Passing>& requests, size_t batch) {
  Bucket bucket;
  bucket.concerned.assign(requests.size(), 0);
  for (const Remote::Shard::Bags& bags : shard.bags) {
    const size_t most = batch * bags.width + 1, ends = batch * bags.widths.size() + 1;
    bucket.memory.emplace_back();
    auto* rows = reinterpret_cast<int32_t*>(bucket.memory.back().bytes((most + ends) * sizeof(int32_t)));
    int32_t* offsets = rows + most;
    bucket.csr.push_back({rows, offsets, 0, ends - 1});
    *offsets++ = 0;
    const auto places_here = static_cast<uint32_t>(bags.last - bags.first);
    size_t kept = 0;
    for (size_t of = 0; of < requests.size(); ++of) {
      const int32_t* place = requests[of].places[bags.places];
      const size_t before = kept;
      for (size_t row = 0; row < requests[of].rows; ++row) {
        for (const uint32_t width : bags.widths) {
          // Which places are the shard's can't be foreseen: each is written, and stays where it is.
          for (const int32_t* end = place + width; place < end; ++place) {
            const uint32_t moved = static_cast<uint32_t>(*place) - static_cast<uint32_t>(bags.first);
            rows[kept] = static_cast<int32_t>(moved);
            kept += static_cast<size_t>(moved < places_here);
          }
          *offsets++ = static_cast<int32_t>(kept);
        }
      }
      bucket.concerned[of] = bucket.concerned[of] != 0 || kept > before;
    }
    bucket.csr.back().count = kept;
    bucket.count += kept;
  }
  return bucket;
}

// A request's vectors, which begin at `from`; where the next one's begin.
const char* put(const Remote::Shard::Bags& bags, const char* from, Passing& request) {
  auto* out = reinterpret_cast<float*>(request.partials[bags.partial].data());
  const size_t bytes = request.rows * bags.widths.size() * bags.dim * sizeof(float);
  std::memcpy(out, from, bytes);
  for (size_t row = 0; row < request.rows; ++row) {
    for (size_t vector = 0; vector < bags.widths.size(); ++vector, out += bags.dim) {
      if (bags.poolings[vector] != Pooling::mean) continue;
      for (uint32_t i = 0; i < bags.dim; ++i) out[i] /= static_cast<float>(bags.widths[vector]);
    }
  }
  return from + bytes;
}

// The requests' partial tensors of a shard out of its answer. Throws Error where that isn't one.
void take(const Remote::Shard& shard, const HttpConnection& connection, std::vector<Passing>& requests, size_t batch) {
  const size_t header = connection.json_size() == 0 ? connection.body_size() : connection.json_size();
  const Json json = Json::parse({connection.body(), header}, "a shard's answer");
  const char* data = connection.body() + header;
  size_t left = connection.body_size() - header;
  std::vector<char> seen(shard.bags.size(), 0);
  for (const Json& output : json.at("outputs").array()) {
    const auto size = static_cast<size_t>(output.at("parameters").at("binary_data_size").integer(0, INT64_MAX));
    if (size > left) throw Error("an answer that is shorter than it says");
    for (size_t number = 0; number < shard.bags.size(); ++number) {
      const Remote::Shard::Bags& bags = shard.bags[number];
      if (output.at("name").text() != "pooled_" + std::to_string(bags.number)) continue;
      if (size != batch * bags.widths.size() * bags.dim * sizeof(float) || output.at("datatype").text() != "FP32") throw Error("an answer of other bags than were asked for");
      if (seen[number] != 0) throw Error("an answer that has some bags twice");
      seen[number] = 1;
      const char* from = data;
      for (Passing& request : requests) from = put(bags, from, request);
    }
    data += size;
    left -= size;
  }
  if (std::find(seen.begin(), seen.end(), 0) != seen.end()) throw Error("an answer that lacks some bags");
}

// What requests have of a shard in which they have no rows.
void put_none(const Remote::Shard& shard, std::vector<Passing>& requests) {
  for (Passing& request : requests) {
    for (const Remote::Shard::Bags& bags : shard.bags) {
      auto* out = reinterpret_cast<float*>(request.partials[bags.partial].data());
      for (size_t row = 0; row < request.rows; ++row) {
        for (const Pooling pooling : bags.poolings) out = fill_empty(out, bags.dim, pooling);
      }
    }
  }
}

}  // namespace

Remote::~Remote() = default;

Remote::Remote(const Json& json) {
  const Asking asking{milliseconds(json, "timeout_ms", 1), milliseconds(json, "hedge_ms", 0), milliseconds(json, "probe_ms", 1), milliseconds(json, "resolve_ms", 1),
                      static_cast<int>(json.at("attempts").integer(1, 1000))};
  for (const Json& item : json.at("shards").array()) {
    auto shard = std::make_unique<Shard>();
    shard->model = item.at("model").text();
    shard->path = "/v2/models/" + shard->model + "/versions/" + std::to_string(item.at("version").integer(1, INT32_MAX)) + "/infer";
    for (const Json& reading : item.at("bags").array()) {
      Shard::Bags bags{};
      bags.number = static_cast<int>(reading.at("number").integer(0, 1 << 20));
      for (const int64_t width : reading.at("widths").integers()) {
        if (width < 1 || width > (1 << 20)) throw Error("a bag of a shard elsewhere has at least one place");
        bags.widths.push_back(static_cast<uint32_t>(width));
        bags.width += static_cast<uint32_t>(width);
      }
      for (const Json& pooling : reading.at("poolings").array()) bags.poolings.push_back(pooling_of(pooling.text()));
      if (bags.widths.empty() || bags.widths.size() != bags.poolings.size()) throw Error("a shard elsewhere pools each vector in one way");
      bags.first = static_cast<int32_t>(reading.at("first").integer(0, INT32_MAX));
      bags.last = static_cast<int32_t>(reading.at("last").integer(bags.first, INT32_MAX));
      bags.dim = static_cast<uint32_t>(reading.at("dim").integer(1, 1 << 20));
      if (reading.at("dtype").text() != "FP32") throw Error("vectors of shards elsewhere are FP32");
      bags.places = tensor_of(places_, {reading.at("places").text(), DType::i32, dims_of(reading.at("places_dims"), bags.width)});
      bags.partial = partials_.size();
      partials_.push_back({reading.at("output").text(), DType::f32, dims_of(reading.at("dims"), bags.widths.size() * bags.dim)});
      shard->bags.push_back(bags);
    }
    std::vector<std::string> addresses;
    for (const Json& address : item.at("replicas").array()) addresses.push_back(address.text());
    // A real question, without rows: a server whose worker has died still says that it is ready.
    std::vector<std::vector<int32_t>> offsets;
    std::vector<Csr> none;
    for (const Shard::Bags& bags : shard->bags) {
      offsets.emplace_back(bags.widths.size() + 1, 0);
      none.push_back({nullptr, offsets.back().data(), 0, bags.widths.size()});
    }
    Question probe = shard->question(none);
    std::string body;
    for (const Piece& piece : probe.body) body.append(static_cast<const char*>(piece.data), piece.size);
    probe.head += body;  // the pieces are gone when it is asked
    probe.body.clear();
    shard->replicas = std::make_unique<Replicas>(addresses, asking, probe);
    shards_.push_back(std::move(shard));
  }
  // Replicas are looked for at once; a front that could answer nobody yet isn't ready, where it is told so.
  const auto most = milliseconds(json, "await_ms", 0);
  const Clock::time_point until = Clock::now() + std::max(most, asking.timeout);
  for (const auto& shard : shards_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    if (!shard->replicas->wait(std::max(left, std::chrono::milliseconds(0))) && most.count() > 0) throw Error("shard '" + shard->model + "': " + shard->replicas->nobody());
  }
}

Question Remote::Shard::question(const std::vector<Csr>& csr) const {
  std::string inputs, outputs;
  Question question;
  size_t size = 0;
  const auto add = [&](const std::string& name, const int32_t* data, size_t count) {
    const size_t bytes = count * sizeof(int32_t);
    inputs += (inputs.empty() ? "" : ",") + ("{\"name\":\"" + name) + "\",\"shape\":[" + std::to_string(count) + "],\"datatype\":\"INT32\",\"parameters\":{\"binary_data_size\":" + std::to_string(bytes) + "}}";
    question.body.push_back({data, bytes});
    size += bytes;
  };
  for (size_t number = 0; number < bags.size(); ++number) {
    const std::string of = std::to_string(bags[number].number);
    add("rows_" + of, csr[number].rows, csr[number].count);
    add("offsets_" + of, csr[number].offsets, csr[number].bags + 1);
    outputs += (outputs.empty() ? "" : ",") + ("{\"name\":\"pooled_" + of) + "\",\"parameters\":{\"binary_data\":true}}";
  }
  const std::string json = "{\"inputs\":[" + inputs + "],\"outputs\":[" + outputs + "]}";
  question.head = "POST " + path + " HTTP/1.1\r\nHost: shard\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: " + std::to_string(json.size()) +
                  "\r\nContent-Length: " + std::to_string(json.size() + size) + "\r\n\r\n" + json;
  return question;
}

void Remote::ask(std::vector<Passing>& requests) const {
  size_t batch = 0;
  for (Passing& request : requests) {
    batch += request.rows;
    request.partials.resize(partials_.size());
    for (size_t number = 0; number < partials_.size(); ++number) request.partials[number].bytes(request.rows * width_of(partials_[number]) * sizeof(float));
  }
  struct Asked {
    Shard* shard;
    Bucket bucket;
    Question question;
  };
  std::vector<Asked> all;
  all.reserve(shards_.size());
  for (const auto& shard : shards_) {
    shard->requests += requests.size();
    Bucket bucket = bucketise(*shard, requests, batch);
    if (bucket.count == 0) {
      ++shard->skipped;
      put_none(*shard, requests);
      continue;
    }
    shard->rows += bucket.count;
    Question question = shard->question(bucket.csr);
    all.push_back({shard.get(), std::move(bucket), std::move(question)});
  }
  std::vector<Call> calls;
  for (const Asked& asked : all) {
    calls.push_back({asked.shard->replicas.get(), &asked.question, [&asked, &requests, batch](const HttpConnection& connection) { take(*asked.shard, connection, requests, batch); }, "", false});
  }
  recsplit::ask(calls);
  for (size_t number = 0; number < calls.size(); ++number) {
    const Call& call = calls[number];
    if (call.failure.empty()) continue;
    const Asked& asked = all[number];
    put_none(*asked.shard, requests);
    for (size_t of = 0; of < requests.size(); ++of) {
      if (asked.bucket.concerned[of] == 0 || !requests[of].error.empty()) continue;
      requests[of].error = "shard '" + asked.shard->model + "'" + (call.refused ? " refused: " : ": ") + call.failure;
      requests[of].unavailable = !call.refused;
    }
  }
}

}  // namespace recsplit
