#include "lookups.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace recsplit {

namespace {

// So many addresses are found before their rows are read: enough to ask for rows early.
constexpr size_t kAddresses = 2048;
// Addresses whose memory a thread keeps for the next request.
constexpr size_t kKept = 1 << 20;
constexpr int64_t kHuge = int64_t{1} << 40;
// Entries of an order are asked for so many ids ahead.
constexpr size_t kAhead = 24;

void mark(int64_t* marks, size_t row, int64_t position, int64_t number) {
  if (marks == nullptr || position < 0 || marks[2 * row] >= 0) return;
  marks[2 * row] = position;
  marks[2 * row + 1] = number;
}

}  // namespace

size_t rows_at_once(size_t ids_in_row) { return std::max<size_t>(1, kAddresses / ids_in_row); }

Lookups::Lookups(Recipe recipe, const std::string& folder, const TableSettings& settings)
    : recipe_(std::move(recipe)), files_(folder, settings.loading, settings.interleave), kernels_(&kernels(settings.kernels.c_str())) {
  for (const Table& table : recipe_.tables) tables_.push_back(files_.at(table.file, table.offset, table.rows * table.row_bytes()));
  TableFiles maps(folder, Loading::populated, false);  // read once, in order, and let go
  for (size_t number = 0; number < recipe_.buffers.size(); ++number) {
    const Buffer& buffer = recipe_.buffers[number];
    const uint64_t bytes = buffer.size * size_bytes(buffer.dtype);
    const bool ranked = is_map(number) && place_maps_.add(number, maps.at(buffer.file, buffer.offset, bytes), buffer.size);
    numbers_.buffers.push_back(ranked ? nullptr : files_.at(buffer.file, buffer.offset, bytes));
  }
  maps.require_whole();
  place_maps_.pack();
  numbers_.recipe = &recipe_;
  access_ = std::make_unique<Access>(recipe_);
  sampled_ = settings.sampled;
  std::vector<std::pair<const char*, uint64_t>> hot;
  for (const Lookup& lookup : recipe_.lookups) {
    if (lookup.table < 0) {
      cold_from_.push_back(UINT64_MAX);
      continue;
    }
    // By heat, the first rows are those that stay in memory.
    const double share = lookup.order < 0 ? 1 : files_.file(recipe_.tables[static_cast<size_t>(lookup.table)].file).resident_share();
    cold_from_.push_back(share >= 1 ? UINT64_MAX : lookup.base + static_cast<uint64_t>(share * static_cast<double>(lookup.rows)));
    if (share >= 1) continue;
    const size_t bytes = recipe_.tables[static_cast<size_t>(lookup.table)].row_bytes();
    const std::pair<const char*, uint64_t> rows(tables_[static_cast<size_t>(lookup.table)] + lookup.base * bytes, (cold_from_.back() - lookup.base) * bytes);
    if (std::find(hot.begin(), hot.end(), rows) != hot.end()) continue;
    hot.push_back(rows);
    hot.emplace_back(numbers_.buffers[static_cast<size_t>(lookup.order)], static_cast<uint64_t>(lookup.rows) * sizeof(int32_t));
  }
  warming_.begin(std::move(hot));
}

std::string Lookups::loaded() const { return std::string("kernels ") + kernels_->name + files_.loaded() + place_maps_.loaded(); }

bool Lookups::is_map(size_t buffer) const {
  const int number = static_cast<int>(buffer);
  for (const Program& program : recipe_.programs) {
    for (const Step& step : program.steps) {
      if (step.op == Op::buffer && step.operands[1] == number) return false;
    }
  }
  bool is_order = false;
  for (const Lookup& lookup : recipe_.lookups) {
    if (lookup.order != number) continue;
    if (lookup.table >= 0) return false;
    is_order = true;
  }
  return is_order;
}

// Whether a lookup's rows follow from the ids of an input alone, so that no addresses need to be written down where all are inside.
bool Lookups::by_ids(const Lookup& lookup) {
  return !lookup.padded && lookup.order < 0 && lookup.width != 0 && lookup.width >= lookup.bags && lookup.group < 0 && lookup.program < 0 && lookup.shifts.size() == 1;
}

// Ids a row whose addresses are written down; of those that are only where one is outside, few in the mean.
size_t Lookups::ids_in_row(const std::vector<InputRows>& inputs) const {
  size_t count = 1;
  for (const Lookup& lookup : recipe_.lookups) {
    if (lookup.table < 0) continue;
    if (by_ids(lookup)) {
      count += lookup.width / kSeldom;
      continue;
    }
    const int of = lookup.group >= 0 ? recipe_.bags[static_cast<size_t>(lookup.group)].values : lookup.input;
    count += lookup.width != 0 ? lookup.width : of >= 0 ? inputs[static_cast<size_t>(of)].width : 64;
  }
  return count;
}

// Ids a row of a lookup of any width.
size_t Lookups::width_of(const Lookup& lookup, const std::vector<InputRows>& inputs) const {
  if (lookup.program < 0) return inputs[static_cast<size_t>(lookup.input)].width;
  size_t width = 1;
  for (const Step& step : recipe_.programs[static_cast<size_t>(lookup.program)].steps) {
    if (step.op != Op::input || step.width != 0) continue;
    const size_t of_input = inputs[static_cast<size_t>(step.operands[0])].width;
    if (of_input == 0) return 0;
    width = std::max(width, of_input);
  }
  return width;
}

size_t Lookups::varying_width(size_t output, const std::vector<InputRows>& inputs) const {
  for (const Lookup& lookup : recipe_.lookups) {
    if (static_cast<size_t>(lookup.output) == output) return width_of(lookup, inputs);
  }
  return 0;
}

void Lookups::check_program(int program, const std::vector<InputRows>& inputs) const {
  const Tensor* longest = nullptr;
  size_t width = 1;
  for (const Step& step : recipe_.programs[static_cast<size_t>(program)].steps) {
    if (step.op != Op::input || step.width != 0) continue;
    const Tensor& tensor = recipe_.inputs[static_cast<size_t>(step.operands[0])];
    const size_t of_input = inputs[static_cast<size_t>(step.operands[0])].width;
    if (of_input == 1 || (longest != nullptr && of_input == width)) continue;
    if (longest != nullptr) {
      throw Error("inputs '" + longest->name + "' and '" + tensor.name + "' have " + std::to_string(width) + " and " + std::to_string(of_input) + " numbers a row, and are read together", true);
    }
    longest = &tensor;
    width = of_input;
  }
}

void Lookups::check_weights(const Lookup& lookup, size_t width, const std::vector<InputRows>& inputs) const {
  const size_t weights = inputs[static_cast<size_t>(lookup.weights)].width;
  if (weights == width) return;
  throw Error("input '" + recipe_.inputs[static_cast<size_t>(lookup.weights)].name + "' has " + std::to_string(weights) + " weights a row, and there are " + std::to_string(width) + " ids", true);
}

void Lookups::check_lengths(const std::vector<InputRows>& inputs) const {
  for (const Lookup& lookup : recipe_.lookups) {
    if (lookup.program >= 0) check_program(lookup.program, inputs);
    if (lookup.weights < 0 || (lookup.width != 0 && lookup.group < 0)) continue;
    check_weights(lookup, lookup.group >= 0 ? inputs[static_cast<size_t>(recipe_.bags[static_cast<size_t>(lookup.group)].values)].width : width_of(lookup, inputs), inputs);
  }
  for (const Check& item : recipe_.checks) check_program(item.program, inputs);
}

void Lookups::run(const std::vector<InputRows>& inputs, size_t first, size_t rows, const std::vector<OutputRows>& outputs, int64_t* marks, LookupScratch& scratch) const {
  if (marks != nullptr) {
    for (size_t row = 0; row < rows; ++row) marks[2 * row] = -1, marks[2 * row + 1] = 0;
  }
  const size_t step = rows_at_once(ids_in_row(inputs));
  for (size_t at = 0; at < rows; at += step) {
    some(inputs, first + at, std::min(step, rows - at), outputs, at, marks == nullptr ? nullptr : marks + 2 * at, scratch);
  }
  // A large request's memory isn't kept for the small ones after it.
  if (scratch.rows.capacity() > kKept) scratch = LookupScratch();
  files_.require_whole();
}

void Lookups::some(const std::vector<InputRows>& inputs, size_t first, size_t rows, const std::vector<OutputRows>& outputs, size_t at, int64_t* marks, LookupScratch& scratch) const {
  scratch.rows.clear();
  scratch.lengths.clear();
  scratch.weights.clear();
  scratch.registers.resize(recipe_.programs.size());
  scratch.ran.assign(recipe_.programs.size(), 0);
  thread_local std::vector<Job> jobs;
  jobs.clear();
  for (const Lookup& lookup : recipe_.lookups) {
    jobs.push_back(lookup.table < 0 ? places(lookup, inputs, first, rows, outputs[static_cast<size_t>(lookup.output)], at, marks, scratch)
                                    : resolve(lookup, inputs, first, rows, marks, scratch));
  }
  for (const Check& item : recipe_.checks) check(item, inputs, first, rows, marks, scratch);
  const char* const* last = scratch.rows.data() + scratch.rows.size();
  for (size_t number = 0; number < jobs.size(); ++number) {
    const Lookup& lookup = recipe_.lookups[number];
    const Job& at_hand = jobs[number];
    if (lookup.table < 0) {
      access_->of(number).count(rows * lookup.width, at_hand.none, at_hand.unknown);
      continue;
    }
    const Table& table = recipe_.tables[static_cast<size_t>(lookup.table)];
    const OutputRows& output = outputs[static_cast<size_t>(lookup.output)];
    PoolJob job{};
    job.ids = at_hand.ids;
    job.ids_stride = at_hand.ids_stride;
    job.narrow = at_hand.narrow;
    job.base = tables_[static_cast<size_t>(lookup.table)] + (static_cast<int64_t>(lookup.base) + lookup.shifts[0]) * static_cast<int64_t>(table.row_bytes());
    job.rows = scratch.rows.data() + at_hand.rows;
    job.last = last;
    job.weights = lookup.weights < 0 ? nullptr : at_hand.direct_weights != nullptr ? at_hand.direct_weights : scratch.weights.data() + at_hand.weights;
    job.lengths = at_hand.ragged ? scratch.lengths.data() + at_hand.lengths : nullptr;
    const size_t width = lookup.width != 0 || lookup.group >= 0 ? lookup.width : at_hand.lengths;
    job.bags = lookup.pooling == Pooling::none ? 1 : lookup.bags;
    job.length = static_cast<uint32_t>(width / job.bags);
    job.batch = rows;
    job.dim = table.dim;
    job.out = output.data + at * output.stride + lookup.place * table.vector_bytes();
    job.out_stride = output.stride;
    kernels_->pool(job, table.format, table.dtype, lookup.pooling);
    access_->of(number).count(at_hand.ids != nullptr ? rows * width : (number + 1 < jobs.size() ? jobs[number + 1].rows : scratch.rows.size()) - at_hand.rows, at_hand.none, at_hand.unknown);
  }
  access_->rows.fetch_add(rows, std::memory_order_relaxed);
  if (sampled_ == 0) return;
  if (scratch.until_sample == UINT64_MAX) scratch.until_sample = scratch.random.next() % sampled_;
  for (; scratch.until_sample < rows; scratch.until_sample += 1 + scratch.random.next() % (2 * sampled_ - 1)) sample(jobs, scratch.until_sample, scratch);
  scratch.until_sample -= rows;
}

TableAccess::Sample Lookups::sample_of(size_t table, bool clear) const {
  TableAccess& access = *access_->tables()[table];
  TableAccess::Sample sample = access.taken(clear);
  for (size_t number = 0; number < recipe_.lookups.size(); ++number) {
    const Lookup& lookup = recipe_.lookups[number];
    if (&access_->of(number) != &access || lookup.order < 0 || lookup.table < 0) continue;
    std::vector<uint32_t> row_at(static_cast<size_t>(lookup.rows));
    const char* order = numbers_.buffers[static_cast<size_t>(lookup.order)];
    for (size_t row = 0; row < row_at.size(); ++row) {
      int32_t place;
      std::memcpy(&place, order + row * sizeof place, sizeof place);
      const uint64_t within = static_cast<uint64_t>(place) - lookup.base;
      if (place >= 0 && within < row_at.size()) row_at[within] = static_cast<uint32_t>(row);
    }
    for (uint32_t& row : sample.rows) row = row_at[row];
    break;  // all lookups of a table have one order
  }
  return sample;
}

// The reads of one row of a request go into the samples of their tables.
void Lookups::sample(const std::vector<Job>& jobs, size_t row, LookupScratch& scratch) const {
  for (size_t number = 0; number < jobs.size(); ++number) {
    const Lookup& lookup = recipe_.lookups[number];
    const Job& job = jobs[number];
    scratch.sampled.clear();
    if (job.ids != nullptr) {
      for (size_t k = 0; k < lookup.width; ++k) {
        const size_t place = row * job.ids_stride + (job.ids_stride == 1 ? 0 : k);
        const int64_t id = job.narrow ? static_cast<const int32_t*>(job.ids)[place] : static_cast<const int64_t*>(job.ids)[place];
        const int64_t shift = lookup.shifts[lookup.shifts.size() == 1 ? 0 : k];
        if (id < -shift || id >= lookup.rows - shift || (lookup.padded && id + shift == lookup.padding)) continue;
        scratch.sampled.push_back(static_cast<uint32_t>(id + shift));
      }
    } else {
      const size_t width = lookup.width != 0 ? lookup.width : job.lengths;
      size_t first = job.rows + (job.ragged ? 0 : row * width), count = job.ragged ? scratch.lengths[job.lengths + row] : width;
      for (size_t before = 0; job.ragged && before < row; ++before) first += scratch.lengths[job.lengths + before];
      const Table& table = recipe_.tables[static_cast<size_t>(lookup.table)];
      const char* start = tables_[static_cast<size_t>(lookup.table)] + lookup.base * table.row_bytes();
      for (; count > 0; --count, ++first) {
        const char* address = scratch.rows[first];
        const size_t place = address == nullptr || address < start ? SIZE_MAX : static_cast<size_t>(address - start) / table.row_bytes();
        if (place < static_cast<size_t>(lookup.rows)) scratch.sampled.push_back(static_cast<uint32_t>(place));
      }
    }
    access_->of(number).sample(scratch.sampled, scratch.random);
  }
}

// A lookup's ids, of rows [first, first + rows) of a request.
IdRows Lookups::ids_of(const Lookup& lookup, const std::vector<InputRows>& inputs, size_t first, size_t rows, LookupScratch& scratch) const {
  if (lookup.program >= 0) {
    const Registers& results = registers(lookup.program, inputs, first, rows, scratch);
    const size_t last = recipe_.programs[static_cast<size_t>(lookup.program)].steps.size() - 1;
    return {results.values[last].data(), false, lookup.width != 0 ? lookup.width : results.widths[last], results.widths[last], rows};
  }
  const InputRows& input = inputs[static_cast<size_t>(lookup.input)];
  const bool narrow = recipe_.inputs[static_cast<size_t>(lookup.input)].dtype == DType::i32;
  return {input.data + (first * input.width + lookup.first) * (narrow ? 4 : 8), narrow, lookup.width != 0 ? lookup.width : input.width, input.width, rows};
}

// A lookup's ids become places, in rows of the output from row `at` on.
Lookups::Job Lookups::places(const Lookup& lookup, const std::vector<InputRows>& inputs, size_t first, size_t rows, const OutputRows& output, size_t at, int64_t* marks, LookupScratch& scratch) const {
  const IdRows ids = ids_of(lookup, inputs, first, rows, scratch);
  Job job{scratch.rows.size(), scratch.lengths.size(), scratch.weights.size(), nullptr, false, ids.ids, ids.stride, ids.narrow};
  char* out = output.data + at * output.stride + lookup.place * sizeof(int32_t);
  if (ids.narrow) {
    places_of<int32_t>(lookup, ids, out, output.stride, marks, job);
  } else {
    places_of<int64_t>(lookup, ids, out, output.stride, marks, job);
  }
  return job;
}

template <typename Id>
void Lookups::places_of(const Lookup& lookup, const IdRows& ids, char* out, size_t out_stride, int64_t* marks, Job& job) const {
  const bool same = lookup.shifts.size() == 1, single = ids.stride == 1;
  const bool all_plain = same && !single && !lookup.padded && kernels_->inside(ids, -lookup.shifts[0], static_cast<uint64_t>(lookup.rows));
  const Id* of_row = static_cast<const Id*>(ids.ids);
  uint32_t table_rows[kRowsTogether];
  int32_t places[kRowsTogether], otherwise[kRowsTogether];  // otherwise: the place of an id that names no row; -1: it names one
  for (size_t row = 0; row < ids.rows; ++row, of_row += ids.stride) {
    for (size_t first = 0; first < ids.width; first += kRowsTogether) {
      const size_t count = std::min(kRowsTogether, ids.width - first);
      for (size_t k = 0; all_plain && k < count; ++k) table_rows[k] = static_cast<uint32_t>(static_cast<int64_t>(of_row[first + k]) + lookup.shifts[0]);
      for (size_t k = 0; !all_plain && k < count; ++k) {
        const size_t j = first + k;
        const int64_t shift = lookup.shifts[same ? 0 : j], id = of_row[single ? 0 : j];
        table_rows[k] = 0;
        // Compared before the shift is added: an id near 2**63 would wrap around.
        if (id < -shift || id >= lookup.rows - shift) {
          ++job.unknown;
          otherwise[k] = static_cast<int32_t>(lookup.fallback);
          mark(marks, row, lookup.mark < 0 ? -1 : lookup.mark + static_cast<int64_t>(j), id);
        } else if (lookup.padded && id + shift == lookup.padding) {
          ++job.none;
          otherwise[k] = lookup.none;
        } else {
          otherwise[k] = -1;
          table_rows[k] = static_cast<uint32_t>(id + shift);
        }
      }
      places_at(lookup, table_rows, count, places);
      for (size_t k = 0; !all_plain && k < count; ++k) places[k] = otherwise[k] < 0 ? places[k] : otherwise[k];
      std::memcpy(out + row * out_stride + first * sizeof(int32_t), places, count * sizeof(int32_t));
    }
  }
}

// The places of some rows of a lookup's table.
void Lookups::places_at(const Lookup& lookup, const uint32_t* rows, size_t count, int32_t* places) const {
  if (lookup.order < 0) {
    for (size_t k = 0; k < count; ++k) places[k] = static_cast<int32_t>(lookup.base + rows[k]);
    return;
  }
  if (const RankMap* map = place_maps_.at(static_cast<size_t>(lookup.order))) return kernels_->places(*map, rows, count, places);
  const char* order = numbers_.buffers[static_cast<size_t>(lookup.order)];
  for (size_t k = 0; k < std::min(kAhead, count); ++k) __builtin_prefetch(order + rows[k] * sizeof(int32_t));
  for (size_t k = 0; k < count; ++k) {
    if (k + kAhead < count) __builtin_prefetch(order + rows[k + kAhead] * sizeof(int32_t));
    std::memcpy(places + k, order + rows[k] * sizeof(int32_t), sizeof(int32_t));
  }
}

// The addresses of a lookup's rows, its bags' lengths, and its weights where they don't lie in the request as they are needed.
Lookups::Job Lookups::resolve(const Lookup& lookup, const std::vector<InputRows>& inputs, size_t first, size_t rows, int64_t* marks, LookupScratch& scratch) const {
  Job job{scratch.rows.size(), scratch.lengths.size(), scratch.weights.size(), nullptr, lookup.group >= 0, nullptr, 0, false};
  const IdRows all = ids_of(lookup, inputs, first, rows, scratch);
  const auto* ids = static_cast<const char*>(all.ids);
  const size_t stride = all.stride, width = all.width;
  const bool narrow = all.narrow;
  if (lookup.group >= 0) {
    if (narrow) {
      ragged(lookup, reinterpret_cast<const int32_t*>(ids), stride, inputs, first, rows, marks, scratch, job);
    } else {
      ragged(lookup, reinterpret_cast<const int64_t*>(ids), stride, inputs, first, rows, marks, scratch, job);
    }
    return job;
  }
  if (lookup.width == 0) job.lengths = width;
  if (all_inside(lookup, all)) {
    job.ids = ids;
    job.ids_stride = stride;
    job.narrow = narrow;
  } else if (narrow) {
    fixed(lookup, reinterpret_cast<const int32_t*>(ids), stride, width, rows, marks, scratch, job);
  } else {
    fixed(lookup, reinterpret_cast<const int64_t*>(ids), stride, width, rows, marks, scratch, job);
  }
  if (lookup.weights >= 0) {
    const InputRows& input = inputs[static_cast<size_t>(lookup.weights)];
    const auto* weights = reinterpret_cast<const float*>(input.data) + first * input.width + lookup.first_weight;
    if (input.width == width) {
      job.direct_weights = weights;
    } else {
      for (size_t row = 0; row < rows; ++row) scratch.weights.insert(scratch.weights.end(), weights + row * input.width, weights + row * input.width + width);
    }
  }
  return job;
}

// Whether all ids of some rows are inside their table, of a lookup whose rows follow from them alone.
bool Lookups::all_inside(const Lookup& lookup, const IdRows& ids) const {
  return by_ids(lookup) && kernels_->inside(ids, -lookup.shifts[0], static_cast<uint64_t>(lookup.rows));
}

template <typename Id>
void Lookups::fixed(const Lookup& lookup, const Id* ids, size_t stride, size_t width, size_t rows, int64_t* marks, LookupScratch& scratch, Job& job) const {
  const auto [base, bytes, fallback] = start_of(lookup);
  const size_t start = scratch.rows.size();
  scratch.rows.resize(start + rows * width);
  const char** out = scratch.rows.data() + start;
  const bool same = lookup.shifts.size() == 1, single = stride == 1;
  const bool one_position = lookup.width == 0;  // of a history of any length: only its first unknown id is told
  for (size_t row = 0; row < rows; ++row, ids += stride) {
    for (size_t j = 0; j < width; ++j) {
      const int64_t shift = lookup.shifts[same ? 0 : j], id = ids[single ? 0 : j];
      // Compared before the shift is added: an id near 2**63 would wrap around.
      if (id < -shift || id >= lookup.rows - shift) {
        *out++ = fallback;
        ++job.unknown;
        mark(marks, row, lookup.mark < 0 ? -1 : lookup.mark + (one_position ? 0 : static_cast<int64_t>(j)), id);
      } else {
        const bool none = lookup.padded && id + shift == lookup.padding;
        job.none += none;
        *out++ = none ? nullptr : base + static_cast<size_t>(id + shift) * bytes;
      }
    }
  }
  if (lookup.order >= 0) through_order(lookup, start, scratch);
}

Lookups::Start Lookups::start_of(const Lookup& lookup) const {
  const size_t bytes = recipe_.tables[static_cast<size_t>(lookup.table)].row_bytes();
  const char* table = tables_[static_cast<size_t>(lookup.table)];
  const char* fallback = table + lookup.fallback * bytes;
  if (lookup.order >= 0) return {numbers_.buffers[static_cast<size_t>(lookup.order)], sizeof(int32_t), fallback};
  return {table + lookup.base * bytes, bytes, fallback};
}

// From entries of an order to the rows that they name. All entries are asked for before the first is read.
void Lookups::through_order(const Lookup& lookup, size_t first, LookupScratch& scratch) const {
  const Table& table = recipe_.tables[static_cast<size_t>(lookup.table)];
  const char* rows = tables_[static_cast<size_t>(lookup.table)];
  const char* order = numbers_.buffers[static_cast<size_t>(lookup.order)];
  const char* end = order + static_cast<size_t>(lookup.rows) * sizeof(int32_t);
  const uint64_t cold_from = cold_from_[static_cast<size_t>(&lookup - recipe_.lookups.data())];
  for (size_t number = first; number < scratch.rows.size(); ++number) __builtin_prefetch(scratch.rows[number]);
  for (size_t number = first; number < scratch.rows.size(); ++number) {
    const char*& address = scratch.rows[number];
    if (address < order || address >= end) continue;  // padding, or the row that an unknown id reads
    int32_t place;
    std::memcpy(&place, address, sizeof place);
    if (place < 0 || static_cast<uint64_t>(place) >= table.rows) throw Error("the order of a table's rows names row " + std::to_string(place) + ", which it hasn't. Publish the build again");
    address = rows + static_cast<size_t>(place) * table.row_bytes();
    if (static_cast<uint64_t>(place) >= cold_from) ask_disk(address, table.row_bytes());
  }
}

template <typename Id>
void Lookups::ragged(const Lookup& lookup, const Id* ids, size_t stride, const std::vector<InputRows>& inputs, size_t first, size_t rows, int64_t* marks, LookupScratch& scratch, Job& job) const {
  const Bags& group = recipe_.bags[static_cast<size_t>(lookup.group)];
  const auto [base, bytes, fallback] = start_of(lookup);
  const size_t start = scratch.rows.size();
  const InputRows& slots = inputs[static_cast<size_t>(group.values)];
  const auto* lengths = reinterpret_cast<const int64_t*>(inputs[static_cast<size_t>(group.lengths)].data) + first * static_cast<size_t>(group.features);
  const auto* weights = lookup.weights < 0 ? nullptr : reinterpret_cast<const float*>(inputs[static_cast<size_t>(lookup.weights)].data) + first * inputs[static_cast<size_t>(lookup.weights)].width;
  const int64_t shift = lookup.shifts[0];
  for (size_t row = 0; row < rows; ++row, lengths += group.features) {
    int64_t before = 0, all = 0;
    bool wrong = false;
    for (int feature = 0; feature < group.features; ++feature) {
      if (feature == lookup.feature) before = all;
      wrong = wrong || lengths[feature] < 0 || lengths[feature] >= kHuge;
      all += wrong ? 0 : lengths[feature];
      wrong = wrong || all > static_cast<int64_t>(slots.width);
    }
    if (wrong) mark(marks, row, lookup.wrong, kWrongLengths);
    const size_t length = wrong ? 0 : static_cast<size_t>(lengths[lookup.feature]);
    scratch.lengths.push_back(static_cast<uint32_t>(length));
    const Id* bag = ids + row * stride + before;
    for (size_t j = 0; j < length; ++j) {
      const int64_t id = bag[j];
      if (id < -shift || id >= lookup.rows - shift) {
        scratch.rows.push_back(fallback);
        ++job.unknown;
        mark(marks, row, lookup.mark, id);
      } else {
        const bool none = lookup.padded && id + shift == lookup.padding;
        job.none += none;
        scratch.rows.push_back(none ? nullptr : base + static_cast<size_t>(id + shift) * bytes);
      }
    }
    if (weights != nullptr) {
      const float* of_bag = weights + row * inputs[static_cast<size_t>(lookup.weights)].width + before;
      scratch.weights.insert(scratch.weights.end(), of_bag, of_bag + length);
    }
  }
  if (lookup.order >= 0) through_order(lookup, start, scratch);
}

const Registers& Lookups::registers(int program, const std::vector<InputRows>& inputs, size_t first, size_t rows, LookupScratch& scratch) const {
  const auto place = static_cast<size_t>(program);
  if (scratch.ran[place] == 0) recsplit::run(recipe_.programs[place], numbers_, inputs, first, rows, scratch.registers[place]);
  scratch.ran[place] = 1;
  return scratch.registers[place];
}

void Lookups::check(const Check& check, const std::vector<InputRows>& inputs, size_t first, size_t rows, int64_t* marks, LookupScratch& scratch) const {
  const Registers& results = registers(check.program, inputs, first, rows, scratch);
  const auto outside = static_cast<size_t>(check.outside), numbers = static_cast<size_t>(check.numbers);
  const bool none = results.widths[outside] == 0 || results.widths[numbers] == 0;
  const size_t width = check.width != 0 ? check.width : none ? 0 : std::max(results.widths[outside], results.widths[numbers]);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t j = 0; j < width; ++j) {
      if (results.values[outside][row * results.widths[outside] + (results.widths[outside] == 1 ? 0 : j)] == 0) continue;
      const int64_t number = results.values[numbers][row * results.widths[numbers] + (results.widths[numbers] == 1 ? 0 : j)];
      mark(marks, row, check.mark + (check.width != 0 ? static_cast<int64_t>(j) : 0), number);
      break;
    }
  }
}

}  // namespace recsplit
