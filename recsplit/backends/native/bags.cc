#include "bags.h"

#include <algorithm>
#include <mutex>

#include "error.h"

namespace recsplit {

namespace {

// Bags that one worker takes at a time.
constexpr size_t kBags = 256;

size_t named(const std::vector<Tensor>& tensors, const std::string& name, DType dtype, const std::vector<int64_t>& dims) {
  for (size_t number = 0; number < tensors.size(); ++number) {
    if (tensors[number].name == name && tensors[number].dtype == dtype && tensors[number].dims == dims) return number;
  }
  throw Error("bags.json: the config has no tensor '" + name + "' of that type and those dims");
}

}  // namespace

struct BagsModel::Share {
  const Reading* reading;
  const int32_t* rows;
  const int32_t* offsets;
  size_t first, last;
  char* out;  // of the first bag
};

BagsModel::BagsModel(const Json& json, const std::string& folder, const TableSettings& settings, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs)
    : tables_(read_tables(json.at("tables"))), files_(folder, settings.loading, settings.interleave), kernels_(&kernels(settings.kernels.c_str())) {
  for (const Table& table : tables_) starts_.push_back(files_.at(table.file, table.offset, table.rows * table.row_bytes()));
  for (const Json& item : json.at("readings").array()) {
    Reading reading{};
    const std::string number = std::to_string(item.at("number").integer(0, 1 << 20));
    reading.table = static_cast<size_t>(item.at("table").integer(0, static_cast<int64_t>(tables_.size()) - 1));
    const Table& table = tables_[reading.table];
    for (const Json& pooling : item.at("poolings").array()) reading.poolings.push_back(pooling_of(pooling.text()) == Pooling::max ? Pooling::max : Pooling::sum);
    if (reading.poolings.empty()) throw Error("bags.json: a reading has vectors");
    const Json& lowest = item.at("lowest_row");
    const bool maxima = std::find(reading.poolings.begin(), reading.poolings.end(), Pooling::max) != reading.poolings.end();
    if (maxima || !lowest.is_null()) reading.lowest_row = static_cast<uint64_t>(lowest.integer(0, static_cast<int64_t>(table.rows) - 1));
    reading.rows = named(inputs, "rows_" + number, DType::i32, {-1});
    reading.offsets = named(inputs, "offsets_" + number, DType::i32, {-1});
    reading.output = named(outputs, "pooled_" + number, table.dtype, {-1, static_cast<int64_t>(table.dim)});
    readings_.push_back(reading);
  }
}

std::string BagsModel::loaded() const { return std::string("bags, kernels ") + kernels_->name + files_.loaded(); }

void BagsModel::run(Request& request, Workers& workers) const {
  std::vector<Share> shares;
  for (const Reading& reading : readings_) {
    const TensorView &rows = request.inputs[reading.rows], &offsets = request.inputs[reading.offsets];
    const int64_t count = rows.dims[0], bags = offsets.dims[0] - 1;
    const auto* places = static_cast<const int32_t*>(rows.data);
    const auto* ends = static_cast<const int32_t*>(offsets.data);
    if (bags < 0 || ends[0] != 0 || bags % static_cast<int64_t>(reading.poolings.size()) != 0) throw Error("offsets begin at 0, and have a bag for each vector of each row", true);
    for (int64_t bag = 0; bag < bags; ++bag) {
      if (ends[bag + 1] < ends[bag]) throw Error("offsets rise", true);
    }
    if (ends[bags] > count) throw Error("offsets end at " + std::to_string(ends[bags]) + ", and there are " + std::to_string(count) + " rows", true);
    const Table& table = tables_[reading.table];
    const int64_t last = ends[bags];
    for (int64_t place = 0; place < last; ++place) {
      if (places[place] < 0 || static_cast<uint64_t>(places[place]) >= table.rows) throw Error("row " + std::to_string(places[place]) + " is outside the shard's " + std::to_string(table.rows), true);
    }
    char* out = request.allocate(reading.output, {bags, static_cast<int64_t>(table.dim)});
    for (size_t first = 0; out != nullptr && first < static_cast<size_t>(bags); first += kBags) {
      shares.push_back({&reading, places, ends, first, std::min<size_t>(first + kBags, static_cast<size_t>(bags)), out + first * table.vector_bytes()});
    }
  }
  if (shares.empty()) return;
  std::mutex failing;
  std::string failure;
  workers.run(shares.size(), [&](size_t number) {
    try {
      pool(shares[number]);
    } catch (const std::exception& error) {
      const std::lock_guard<std::mutex> lock(failing);
      failure = error.what();
    }
  });
  if (!failure.empty()) throw Error(failure);
  files_.require_whole();
}

void BagsModel::pool(const Share& share) const {
  const Reading& reading = *share.reading;
  const Table& table = tables_[reading.table];
  const char* start = starts_[reading.table];
  const size_t vectors = reading.poolings.size(), row_bytes = table.row_bytes(), bags = share.last - share.first;
  thread_local std::vector<const char*> kept_addresses;
  thread_local std::vector<uint32_t> kept_lengths;
  // What belongs to a thread is found anew at each use of its name.
  std::vector<const char*>& addresses = kept_addresses;
  std::vector<uint32_t>& lengths = kept_lengths;
  addresses.resize(static_cast<size_t>(share.offsets[share.last] - share.offsets[share.first]) + bags);
  lengths.resize(bags);
  size_t count = 0;
  for (size_t bag = share.first; bag < share.last; ++bag) {
    const size_t before = count;
    for (int32_t place = share.offsets[bag]; place < share.offsets[bag + 1]; ++place) addresses[count++] = start + static_cast<size_t>(share.rows[place]) * row_bytes;
    if (count == before && reading.poolings[bag % vectors] == Pooling::max) addresses[count++] = start + reading.lowest_row * row_bytes;
    lengths[bag - share.first] = static_cast<uint32_t>(count - before);
  }
  addresses.resize(count);
  const char* const* rows = addresses.data();
  // Bags that are pooled alike lie together mostly: all of them, or those of a few readings that were put into one tensor.
  for (size_t first = 0; first < lengths.size();) {
    const Pooling pooling = reading.poolings[(share.first + first) % vectors];
    size_t last = first, alike = 0;
    for (; last < lengths.size() && reading.poolings[(share.first + last) % vectors] == pooling; ++last) alike += lengths[last];
    PoolJob job{};
    job.rows = rows;
    job.last = addresses.data() + addresses.size();
    job.lengths = lengths.data() + first;
    job.batch = 1;
    job.bags = static_cast<uint32_t>(last - first);
    job.dim = table.dim;
    job.out = share.out + first * table.vector_bytes();
    kernels_->pool(job, table.format, table.dtype, pooling);
    rows += alike;
    first = last;
  }
}

}  // namespace recsplit
